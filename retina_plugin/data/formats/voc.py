"""Pascal VOC: one XML file per image.

``<bndbox>`` counts pixels from 1 and includes the last: the edges are (xmin - 1, ymin - 1, xmax, ymax), as in
Detectron2's ``pascal_voc.py``. Boxes marked difficult are trained on, as there, and ignored in scoring, as in VOC.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import SetupError
from .box_set import Box, BoxSet, Remark, check_claimed_size
from .files import list_files, read_text
from .pairing import IMAGE_WORDS, ImageIndex, NotAnAnnotation, find_folder, find_pairs, fold
from .parts import part_of, part_of_name
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
    place = find_folder(folder, ("annotations",)) or folder
    files = [path] if path.is_file() else list_files(place, (".xml",))
    if not files:
        raise SetupError(f"{folder} has no XML files (Pascal VOC).")
    index = ImageIndex(images or find_folder(folder, IMAGE_WORDS) or folder)
    found = BoxSet(str(path), index.folder, [])
    listed = _read_lists(folder, files, subset) if path.is_dir() else {}
    parts = {file: listed.get(file) or part_of(file, place) for file in files}
    for file, root, image in find_pairs(found, files, index, _read_file, "XML", subset, parts.__getitem__):
        size = root.find("size")
        if size is not None:
            claimed = [_number(file, side, size) for side in ("width", "height")]
            if claimed != [0, 0]:  # some tools write 0 for a size that they do not know
                check_claimed_size(image.path, (image.width, image.height), claimed, f"{file}:{size.line}")
        boxes = [_read_object(file, element, found.remarks) for element in root.find_all("object")]
        image.boxes = [box for box in boxes if box]
    return found


def _read_file(file: Path) -> tuple[Element, str, str]:
    root = read_xml(file)
    if root.tag != "annotation":
        raise NotAnAnnotation(f"{file}:{root.line}: the first tag must be <annotation> (Pascal VOC), got <{root.tag}>.")
    name = root.find("filename")
    return root, name.text if name else "", ""


def _read_lists(folder: Path, files: Sequence[Path], subset: str) -> dict[Path, set[str]]:
    """The parts of each XML file by the lists of ``ImageSets/Main``, of a folder of the set or of one below it."""
    parts: dict[Path, set[str]] = {}
    lists = [text for text in list_files(folder, (".txt",)) if fold("/".join(text.parts[-3:-1])) == "imagesets/main"]
    for place in dict.fromkeys(text.parents[2] for text in lists):
        own = [file for file in files if file.is_relative_to(place)]
        by_name = {fold(file.stem): file for file in own}
        by_name |= {fold(str(file.relative_to(place).with_suffix("")).split("/", 1)[-1]): file for file in own}
        for text in lists:
            part = part_of_name(text.stem)
            if not part or text.parents[2] != place:
                continue  # trainval, default, or the list of one class
            for number, line in enumerate(read_text(text).splitlines(), 1):
                if not line.strip():
                    continue
                # "name" or, in the lists of one class, "name -1": the rest is not read.
                names = (line.strip(), line.split()[0], os.path.splitext(line.strip())[0])
                annotation = next((by_name[fold(name)] for name in names if fold(name) in by_name), None)
                if annotation:
                    parts.setdefault(annotation, set()).add(part)
                elif part == subset:
                    annotations = find_folder(place, ("annotations",)) or place
                    raise SetupError(f"{text}:{number}: {names[1]} has no XML file in {annotations}.")
    return parts


def _read_object(file: Path, element: Element, remarks: list[Remark]) -> Box | None:
    origin = f"{file}:{element.line}"
    if element.find("robndbox"):
        raise SetupError(f"{origin}: an oriented box (<robndbox>) is not supported: write <bndbox>.")
    name, box, polygon = (element.find(tag) for tag in ("name", "bndbox", "polygon"))
    if name is None or (box is None and polygon is None):
        raise SetupError(
            f"{origin}: <object> needs <name> and <bndbox>, got no <{'name' if name is None else 'bndbox'}>."
        )
    if box is None:  # RectLabel: <x1>, <y1>, <x2>, ...
        corners = [[_number(file, t.tag, polygon) for t in polygon.children if t.tag[:1] == axis] for axis in "xy"]
        if min(map(len, corners)) < 3:
            raise SetupError(f"{origin}: a <polygon> needs at least 3 points <x1>, <y1>, <x2>, <y2>, ...")
        remarks.append(Remark("polygon taken as the box around it", origin))
        xs, ys = corners
        return Box(min(xs) - 1, min(ys) - 1, max(xs), max(ys), name.text, origin)
    xmin, ymin, xmax, ymax = (_number(file, tag, box) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if xmin == xmax and ymin == ymax:
        remarks.append(Remark("box dropped: its corners are one point", origin))
        return None
    difficult = element.find("difficult")
    is_difficult = difficult is not None and difficult.text.strip().lower() in ("1", "true", "yes")
    if is_difficult:
        remarks.append(Remark("object marked difficult: it is trained on and, as in VOC, not scored", origin))
    return Box(xmin - 1, ymin - 1, xmax, ymax, name.text, origin, is_difficult=is_difficult)


def _number(file: Path, tag: str, parent: Element) -> float:
    element = parent.find(tag)
    if element is None:
        raise SetupError(f"{file}:{parent.line}: <{parent.tag}> has no <{tag}>.")
    try:
        return float(element.text)
    except ValueError:
        raise SetupError(f"{file}:{element.line}: <{tag}> must be a number, got {element.text!r}.") from None
