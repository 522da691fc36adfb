"""Pascal VOC: one XML file per image.

``<bndbox>`` counts pixels from 1 and includes the last: the edges are (xmin - 1, ymin - 1, xmax, ymax), as in
Detectron2's ``pascal_voc.py``. Boxes marked difficult are kept, as there.
"""

from pathlib import Path

from ...errors import SetupError
from .box_set import Box, BoxSet, Remark, check_claimed_size
from .files import ImageIndex, find_pairs, list_files, read_text, subset_folder
from .xml_tree import Element, read_xml

__all__ = ["read"]


def read(path: Path, images: Path | None = None, subset: str = "") -> BoxSet:
    """Read the XML files of a folder.

    Args:
        path: with ``Annotations/`` (and ``JPEGImages/``, ``ImageSets/Main/``) or XML files in it; or one XML file.
        images: folder of the images; by default ``JPEGImages`` or ``images`` in ``path``, else ``path``.
        subset: "train" or "val": only what ``ImageSets/Main/<subset>.txt`` or a folder of that name holds, if there
            is one; "" for everything.

    Raises:
        SetupError: naming file and line.
    """
    folder = path if path.is_dir() else path.parent
    part = subset_folder(folder, subset)
    folder = part or folder
    files = [path] if path.is_file() else _annotation_files(folder, "" if part else subset)
    index = ImageIndex(images or next((folder / n for n in ("JPEGImages", "images") if (folder / n).is_dir()), folder))
    found = BoxSet(str(path), index.folder, [])
    for file, root, image in find_pairs(found, files, index, _read_file, "XML"):
        size = root.find("size")
        if size is not None:
            claimed = [_number(file, side, size) for side in ("width", "height")]
            if claimed != [0, 0]:  # some tools write 0 for a size that they do not know
                check_claimed_size(image.path, (image.width, image.height), claimed, f"{file}:{size.line}")
        boxes = [_read_object(file, element, found.remarks) for element in root.find_all("object")]
        image.boxes = [box for box in boxes if box]
    if not subset:
        known = {image.path for image in found.images}
        found.remarks += [Remark("image left out: it has no XML file", str(i)) for i in index.files if i not in known]
    return found


def _read_file(file: Path) -> tuple[Element, str, str]:
    root = read_xml(file)
    if root.tag != "annotation":
        raise SetupError(f"{file}:{root.line}: the first tag must be <annotation> (Pascal VOC), got <{root.tag}>.")
    name = root.find("filename")
    return root, name.text if name else "", ""


def _annotation_files(folder: Path, subset: str) -> list[Path]:
    annotations = folder / "Annotations"
    files = list_files(annotations if annotations.is_dir() else folder, (".xml",))
    if not files:
        raise SetupError(f"{folder} has no XML files (Pascal VOC).")
    chosen = folder / "ImageSets" / "Main" / f"{subset}.txt"
    if not subset or not chosen.is_file():
        return files
    by_stem = {file.stem: file for file in files}
    picked = []
    for number, line in enumerate(read_text(chosen).splitlines(), 1):
        # "name" or, in the lists of one class, "name -1": the rest is not read.
        if words := line.split():
            if words[0] not in by_stem:
                raise SetupError(f"{chosen}:{number}: {words[0]} has no XML file in {annotations}.")
            picked.append(by_stem[words[0]])
    return picked


def _read_object(file: Path, element: Element, remarks: list[Remark]) -> Box | None:
    origin = f"{file}:{element.line}"
    if element.find("robndbox"):
        raise SetupError(f"{origin}: an oriented box (<robndbox>) is not supported: write <bndbox>.")
    name, box = element.find("name"), element.find("bndbox")
    if name is None or box is None:
        raise SetupError(
            f"{origin}: <object> needs <name> and <bndbox>, got no <{'name' if name is None else 'bndbox'}>."
        )
    xmin, ymin, xmax, ymax = (_number(file, tag, box) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if xmin == xmax and ymin == ymax:
        remarks.append(Remark("box dropped: its corners are one point", origin))
        return None
    return Box(xmin - 1, ymin - 1, xmax, ymax, name.text, origin)


def _number(file: Path, tag: str, parent: Element) -> float:
    element = parent.find(tag)
    if element is None:
        raise SetupError(f"{file}:{parent.line}: <{parent.tag}> has no <{tag}>.")
    try:
        return float(element.text)
    except ValueError:
        raise SetupError(f"{file}:{element.line}: <{tag}> must be a number, got {element.text!r}.") from None
