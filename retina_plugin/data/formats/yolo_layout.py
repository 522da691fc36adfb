"""The images, labels, parts and class names of a YOLO data set: by ``data.yaml``, ``obj.data``, lists, or folders."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import SetupError
from ..image_paths import check_named
from ..images import IMAGE_SUFFIXES
from .box_set import Remark
from .files import list_files, read_names, read_text, read_yaml
from .pairing import IMAGE_WORDS, IMAGES_REMEDY, ImageIndex, fold, fold_parts
from .parts import part_of_name

__all__ = ["YoloLayout", "find_layout", "find_names_files"]

_NAME_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels", "predefined_classes.txt")
_KEYS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass
class YoloLayout:
    """Where the images and labels of a set are."""

    index: ImageIndex
    labels: list[Path]
    names: list[str]
    # The parts of each image that a description or a list names.
    listed: dict[Path, set[str]]
    # The description says which images are of the set.
    is_complete: bool
    # Lines have the points of a pose behind the box.
    has_keypoints: bool = False
    remarks: list[Remark] = field(default_factory=list)


def find_layout(path: Path, images: Path | None, subset: str, classes: list[str] | None) -> YoloLayout:
    """The images, labels and class names of ``path``; the arguments are those of ``yolo.read``.

    Raises:
        SetupError: there are no images or no names.
    """
    folder = path if path.is_dir() else path.parent
    file = path if path.is_file() else _find_description(folder)
    folder = file.parent if file else folder
    content = _read_description(file) if file else {}
    names = classes or _find_names(file, content, folder)
    if type(content.get("nc")) is int and content["nc"] != len(names):
        raise SetupError(f"{file}: nc is {content['nc']}, but there are {len(names)} names: correct one of them.")
    places, remarks = _find_places(folder, file, content, subset if images is None else None)
    is_narrow = path.is_file() and places and all(place.is_dir() for _, place in places) and images is None
    files = [image for _, place in places for image in list_files(place, IMAGE_SUFFIXES)] if is_narrow else None
    index = ImageIndex(images or folder, files)
    lists = _Lists(index, _base(folder, content))
    for part, place in places:
        lists.add(part, place)
    is_complete = bool(lists.parts)
    for part, place in _lists_of_folder(folder, index):
        if part not in {_KEYS.get(key) for key in content}:
            lists.add(part, place)
    if outside := [image for image in lists.parts if image not in index]:
        index = ImageIndex(index.folder, [*index.files, *outside])
    if not index.files:
        raise SetupError(f"{path} has no images in {index.folder} (YOLO): {IMAGES_REMEDY}")
    # A data.yaml that is named may lie anywhere: its own folder is none of the set.
    own = [] if is_narrow else [folder]
    folders = {image.parent for image in index.files if is_narrow or not image.is_relative_to(folder)}
    folders |= {other for place in folders if (other := _labels_beside(place))}
    texts = sorted({text for place in (*own, *folders) for text in list_files(place, (".txt",))} - lists.files)
    labels = [text for text in texts if fold(text.name) not in _NAME_FILES]
    return YoloLayout(index, labels, names, lists.parts, is_complete, "kpt_shape" in content, remarks)


def find_names_files(folder: Path) -> list[Path]:
    """Files of class names in a folder, the usual names first; in its subfolders if it has none."""
    for files in (
        [file for file in folder.iterdir() if file.is_file()],
        list_files(folder, (".txt", ".names", ".labels")),
    ):
        named = [file for name in _NAME_FILES for file in sorted(files) if fold(file.name) == name]
        if named := named or sorted(file for file in files if file.suffix.lower() == ".names"):
            return named
    return []


def _find_description(folder: Path) -> Path | None:
    """The one YAML file with names, or the one file of darknet's keys; of a subfolder, if the folder has no names."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".yaml", ".yml"))
    files = [file for file in files if "names" in read_yaml(file)]
    files = files or sorted(file for file in folder.glob("*.data") if "train" in _read_description(file))
    if not files and not find_names_files(folder):
        files = [file for file in list_files(folder, (".yaml", ".yml")) if "names" in read_yaml(file)]
    if len(files) > 1:
        first, second = (file.relative_to(folder) for file in files[:2])
        raise SetupError(f"{folder} has more than one YAML file with names ({first}, {second}): name one.")
    return files[0] if files else None


def _read_description(file: Path) -> dict:
    """The content of data.yaml, or the ``KEY = VALUE`` lines of darknet's obj.data."""
    if file.suffix.lower() in (".yaml", ".yml"):
        return read_yaml(file)
    pairs = (line.partition("=") for line in read_text(file).splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _find_names(file: Path | None, content: dict, folder: Path) -> list[str]:
    if isinstance(content.get("names"), str) and file.suffix.lower() == ".data":
        found = [place] if (place := _resolve(folder, folder, content["names"])) else []
    else:
        found = [file] if "names" in content else []
    found = found or find_names_files(folder)
    if not found:
        above = folder.parent / "data.yaml"
        hint = f"; or name {above}, which is there" if above.is_file() else ""
        raise SetupError(
            f"{folder} has no class names (YOLO): add data.yaml with names, classes.txt or obj.names, "
            f"or give DATASETS.CLASSES{hint}."
        )
    names = read_names(found[0])
    for other in found[1:]:
        if other.name == found[0].name and read_names(other) != names:  # one in each part
            raise SetupError(f"{found[0]} and {other} have other class names: make them the same.")
    return names


def _find_places(
    folder: Path, file: Path | None, content: dict, subset: str | None
) -> tuple[list[tuple[str, Path]], list[Remark]]:
    """Part and place of each entry of a description, and remarks on those that are not there.

    Args:
        subset: the part that is read, or "" for all; None if the description is not needed to find the images.

    Raises:
        SetupError: an entry that is needed is not there, or leads out of the folders of the set.
    """
    base = _base(folder, content)
    found, missing = [], []
    for key, part in _KEYS.items():
        entries = content.get(key) or []
        for entry in map(str, entries if isinstance(entries, list) else [entries]):
            if place := _resolve(folder, base, entry):
                found.append((part, place))
            else:
                missing.append((part, entry))
    has_test = any(part == "test" for part, _ in found)
    remarks = []
    for part, entry in missing:
        if part == subset and (part == "train" or not has_test) or (part == "train" and subset == ""):
            raise SetupError(f"{file} names {entry}, which does not exist in {base}: correct it, or {IMAGES_REMEDY}")
        if subset in ("", part):
            remarks.append(Remark(f"{file.name} names {entry}, which does not exist", str(file)))
    return found, remarks


def _lists_of_folder(folder: Path, index: ImageIndex) -> Iterator[tuple[str, Path]]:
    """Lists of images that are named after a part, such as train.txt."""
    for file in sorted(folder.glob("*.txt")):
        part = part_of_name(file.stem)
        if part and any(index.find(line, file) for line in read_text(file).splitlines()[:10]):
            yield part, file


@dataclass
class _Lists:
    """Collects the parts of images that a description or lists name."""

    index: ImageIndex
    base: Path
    parts: dict[Path, set[str]] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)

    def add(self, part: str, place: Path) -> None:
        """Add the images of a folder, or of a list of them.

        Raises:
            SetupError: one of a list is missing.
        """
        for image in self._images_in(place):
            self.parts.setdefault(image, set()).add(part)

    def _images_in(self, place: Path) -> Iterator[Path]:
        if place.is_dir():
            inside = [image for image in self.index.files if image.is_relative_to(place)]
            yield from inside or list_files(place, IMAGE_SUFFIXES)
            return
        self.files.add(place)
        for number, line in enumerate(read_text(place).splitlines(), 1):
            if name := line.strip():
                direct = Path(os.path.normpath(self.base / name))
                is_here = os.path.isfile(direct) and direct.is_relative_to(self.base)
                image = direct if is_here else self.index.find(name, place)
                if image is None:
                    raise SetupError(f"{place}:{number}: the image {name} is missing: correct it, or {IMAGES_REMEDY}")
                yield image


def _base(folder: Path, content: dict) -> Path:
    """Where the entries of data.yaml start: the folder itself, if ``path`` is one of another machine."""
    path = str(content.get("path") or "")
    return _resolve_inside(folder, path) or (folder / path if os.path.isdir(folder / path) else folder)


def _resolve(folder: Path, base: Path, entry: str) -> Path | None:
    """The folder or list that an entry of a description means; None if it is not there.

    An entry may be a path of another machine or start from another folder, so that only its end fits.

    Raises:
        SetupError: it is outside the folders of the set.
    """
    inside = _resolve_inside(base, entry) if base.is_relative_to(folder) else None
    if place := inside or _resolve_inside(folder, entry):
        return place
    place = Path(os.path.normpath(base / entry))
    if not os.path.exists(place):
        return None
    check_named([place], noun="file")
    return place


def _resolve_inside(folder: Path, entry: str) -> Path | None:
    entry = entry.strip().replace("\\", "/")
    # Exports of annotation services write ../train/images for train/images.
    for name in (entry.removeprefix("../"), entry):
        place = Path(os.path.normpath(folder / name))
        if place.is_relative_to(os.path.normpath(folder)) and os.path.exists(place):
            return place
    names = fold_parts(entry)
    # "valid/images" is not "images": what names the part has to be there.
    last = next((i for i, name in enumerate(names) if part_of_name(os.path.splitext(name)[0])), len(names) - 1)
    return next((place for i in range(last + 1) if (place := _descend(folder, names[i:]))), None)


def _descend(folder: Path, names: list[str]) -> Path | None:
    """The path below ``folder`` with these folded names."""
    for name in names:
        if not folder.is_dir():
            return None
        folder = next((entry for entry in sorted(folder.iterdir()) if fold(entry.name) == name), None)
        if folder is None:
            return None
    return folder


def _labels_beside(images: Path) -> Path | None:
    """The folder of labels that belongs to a folder of images."""
    last = max((i for i, name in enumerate(images.parts) if fold(name) in IMAGE_WORDS), default=None)
    if last is None:
        return None
    return _descend(Path(*images.parts[:last]), ["labels", *map(fold, images.parts[last + 1 :])])
