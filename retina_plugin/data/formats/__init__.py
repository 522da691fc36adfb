"""Readers of annotation formats: each makes a ``BoxSet`` of a file or folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

from ...errors import SetupError
from ..image_paths import bounded_by, refuse_line_breaks
from . import coco, csv_boxes, labelme, voc, yolo
from .box_set import BoxSet
from .detect import detect_format
from .files import refuse_results
from .pairing import IMAGES_REMEDY

__all__ = ["FORMATS", "detect_format", "read_boxes", "say_options"]

FORMATS = {"coco": coco, "voc": voc, "yolo": yolo, "labelme": labelme, "csv": csv_boxes}
# Config keys in messages -> the options of `retina convert`.
_OPTIONS = {
    IMAGES_REMEDY: "give their folder (--images).",
    "DATASETS.FORMAT": "--format",
    "DATASETS.CLASSES": "--classes",
    "name one in DATASETS.TRAIN_PATH, another in VAL_PATH": "name one",
}


def read_boxes(
    path: Path,
    file_format: str = "auto",
    *,
    images: Path | None = None,
    subset: str = "",
    classes: list[str] | None = None,
    allow_outside: bool = False,
    checked_later: bool = False,
) -> BoxSet:
    """Read a data set in any of the formats.

    Args:
        path: a file or folder.
        file_format: a key of FORMATS, or "auto" to find out.
        images: folder of the images, where the format's usual place is not theirs.
        subset: "train" or "val": that part of it, if it says which that is; "" for everything.
        classes: class names in their order; by default the format's names file, else the names sorted.
        checked_later: leave images and boxes of COCO files, which pass through as they are, to ``check_datasets``.
        allow_outside: take images that the annotations name outside ``path`` and the folder of the images.

    Returns:
        the set, with boxes that cannot be used left out and remarked on.

    Raises:
        SetupError: naming file and line.
    """
    if not path.exists():
        raise SetupError(f"{path} does not exist: give the folder or file of the annotations.")
    if file_format not in ("auto", *FORMATS):
        raise SetupError(f"The format must be auto or one of {', '.join(FORMATS)}, got {file_format!r}.")
    if file_format == "auto":
        refuse_results(path)
    # A file that the user names may be a link: the folder of its target is inside too.
    own = [path] if path.is_dir() else [path.parent, path.resolve().parent]
    with bounded_by([*own, *([images] if images else [])], str(path), allow_outside=allow_outside):
        file_format = detect_format(path) if file_format == "auto" else file_format
        options = {"yolo": {"classes": classes}, "coco": {"open_images": not checked_later}}.get(file_format, {})
        found = FORMATS[file_format].read(path, images, subset, **options)
    if file_format != "coco":  # two programs may write one name in two Unicode forms
        found.given_classes = found.given_classes and [normalize("NFC", name) for name in found.given_classes]
        for image in found.images:
            image.boxes = [box._replace(class_name=normalize("NFC", box.class_name)) for box in image.boxes]
    if classes:
        found.given_classes = list(classes)
    found = found.check_names() if checked_later and file_format == "coco" else found.clean()
    refuse_line_breaks([*(image.path for image in found.images), *found.class_names], str(path))
    return found


@contextlib.contextmanager
def say_options() -> Iterator[None]:
    """Within the block messages name the options of ``retina convert`` in place of config keys."""
    try:
        yield
    except SetupError as error:
        text = str(error)
        for key, option in _OPTIONS.items():
            text = text.replace(key, option)
        raise SetupError(text) from None
