"""The images and class names of a YOLO data set: by ``data.yaml``, or by folders and a file of names."""

import os
from pathlib import Path
from typing import NamedTuple

from ...errors import SetupError
from ..image_paths import check_named
from ..images import IMAGE_SUFFIXES
from .files import (
    IMAGES_REMEDY,
    SUBSET_NAMES,
    ImageIndex,
    list_files,
    read_names,
    read_text,
    read_yaml,
    subset_folder,
)

__all__ = ["find_layout"]

_NAME_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels")
# Text files that are not labels: class names and lists of images.
OTHER_TEXTS = (*_NAME_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt", "README.txt",
               "README.dataset.txt", "README.roboflow.txt")  # fmt: skip


class YoloLayout(NamedTuple):
    root: Path
    images: list[Path]
    names: list[str]
    other_texts: tuple[str, ...] = OTHER_TEXTS


def find_layout(path: Path, images: Path | None, subset: str, classes: list[str] | None) -> YoloLayout:
    """The images and class names of ``path``; the arguments are those of ``yolo.read``.

    Raises:
        SetupError: there are no images or no names.
    """
    folder = path if path.is_dir() else path.parent
    file = path if path.is_file() else _find_yaml(folder)
    content = read_yaml(file) if file and file.suffix.lower() in (".yaml", ".yml") else {}
    names = classes or _find_names(file if content else None, folder)
    if content and type(content.get("nc")) is int and content["nc"] != len(names):
        raise SetupError(f"{file}: nc is {content['nc']}, but there are {len(names)} names: correct one of them.")
    if images is not None:
        root, found = images, ImageIndex(images).files
    elif listed := _listed_images(file, content, subset):
        root, found = folder, listed
    else:
        whole = folder / "images" if (folder / "images").is_dir() else folder
        root = subset_folder(whole, subset) or subset_folder(folder, subset) or whole
        found = list_files(root, IMAGE_SUFFIXES)
    if not found:
        raise SetupError(f"{path} has no images in {root} (YOLO): {IMAGES_REMEDY}")
    return YoloLayout(root, found, names)


def _find_yaml(folder: Path) -> Path | None:
    """The one YAML file of a folder that has names."""
    files = [
        file for suffix in ("*.yaml", "*.yml") for file in sorted(folder.glob(suffix)) if "names" in read_yaml(file)
    ]
    if len(files) > 1:
        raise SetupError(
            f"{folder} has more than one YAML file with names ({files[0].name}, {files[1].name}): name one."
        )
    return files[0] if files else None


def _find_names(data_yaml: Path | None, folder: Path) -> list[str]:
    if data_yaml:
        return read_names(data_yaml)
    for place in (folder, folder / "labels", folder / "annotations"):
        files = [place / name for name in _NAME_FILES if (place / name).is_file()] or sorted(place.glob("*.names"))
        if files:
            return read_names(files[0])
    raise SetupError(
        f"{folder} has no class names (YOLO): add data.yaml with names, classes.txt or obj.names, "
        "or give DATASETS.CLASSES (--classes)."
    )


def _listed_images(file: Path | None, content: dict, subset: str) -> list[Path]:
    """The images of the keys ``train`` and ``val`` of data.yaml, or of one of them; [] if it names none."""
    if file is None or not content:
        return []
    base = file.parent / str(content.get("path") or "")
    if not os.path.isdir(base):  # written on another machine, or relative to another folder
        base = file.parent
    keys = SUBSET_NAMES.get(subset) or tuple(name for names in SUBSET_NAMES.values() for name in names)
    entries = []
    for key in keys:
        value = content.get(key) or []
        entries += value if isinstance(value, list) else [value]
    found = [image for entry in entries for image in _images_of(file, base, str(entry))]
    return list(dict.fromkeys(found))


def _images_of(file: Path, base: Path, entry: str) -> list[Path]:
    # Exports of annotation services write ../train/images for train/images.
    place = next((p for p in (base / entry.removeprefix("../"), base / entry) if os.path.exists(p)), None)
    if place is None:
        raise SetupError(f"{file} names {entry}, which does not exist in {base}: correct it, or {IMAGES_REMEDY}")
    check_named([place], noun="file")
    if place.is_dir():
        return list_files(place, IMAGE_SUFFIXES)
    found = []
    for number, line in enumerate(read_text(place).splitlines(), 1):
        if name := line.strip():
            image = next((p for p in (base / name, place.parent / name) if os.path.isfile(p)), None)
            if image is None:
                raise SetupError(f"{place}:{number}: the image {name} is missing.")
            found.append(image)
    return found
