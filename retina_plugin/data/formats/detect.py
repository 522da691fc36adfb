"""The format of a file or folder: that of most of its annotation files, by their content.

A format of a tool that is not read is named, with the formats that the tool can export too.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ...errors import SetupError
from ..image_paths import open_named
from .csv_boxes import is_box_file
from .files import list_files, read_yaml
from .yolo import are_labels
from .yolo_layout import find_names_files

__all__ = ["detect_format", "kind_of_json"]

_EXPORTS = "export it as COCO, YOLO or Pascal VOC, which are read"
# What is not read -> its name, and the way out.
_FOREIGN = {
    "createml": f"CreateML JSON: {_EXPORTS} (in labelImg the button below Save)",
    "label studio": f"Label Studio's own JSON: {_EXPORTS} (the button Export of the project)",
    "via": "VIA's own format: export it as COCO (Annotation > Export Annotations (COCO format))",
    "supervisely": f"Supervisely JSON: {_EXPORTS}",
    "labelbox": f"Labelbox NDJSON: {_EXPORTS}",
    "cvat": f"CVAT for images (XML): {_EXPORTS} (COCO 1.0, YOLO 1.1, PASCAL VOC 1.1)",
    "tfrecord": f"TFRecord: {_EXPORTS}",
}
_NAMES = "coco, voc, yolo, labelme, csv"
_ENDS = 2**16  # bytes of a file's beginning and end; a COCO file need not be read whole to be known
_COUNTED = 2**26  # bytes of a file in which its images are counted
_SAMPLE = 40  # files of one suffix that are looked into
# A guard: two formats of which one has fewer than this share of the files are no question.
_STRAY_SHARE = 0.1
_JSON_KEYS = (
    ("via", rb'"_via_img_metadata"|"_via_settings"|"region_attributes"'),
    ("label studio", rb'"(rectangle|polygon|brush|ellipse|keypoint)labels"'),
    ("supervisely", rb'"(classTitle|geometryType)"'),
    ("createml", rb'"coordinates"\s*:\s*\{'),
    ("labelme", rb'"shapes"\s*:'),
)
_COCO_KEYS = (rb'"images"\s*:\s*\[', rb'"annotations"\s*:\s*\[', rb'"categories"\s*:\s*\[')


def detect_format(path: Path) -> str:
    """The format of a file or folder.

    Raises:
        SetupError: none fits, or more than one.
    """
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix not in _KINDS or suffix == ".txt":
            raise SetupError(
                f"{path} is no file of annotations by its suffix: give the folder of the set, or the .json, .csv, "
                ".yaml or .data file of all of it."
            )
        return _refuse_foreign(_KINDS[suffix](path) or _FIRST_GUESS.get(suffix, "yolo"), path)
    kinds: dict[str, list[Path]] = {}
    counts: Counter[str] = Counter()
    guesses: list[str] = []
    by_suffix: dict[str, list[Path]] = {suffix: [] for suffix in _KINDS}
    for file in list_files(path, _KINDS):
        by_suffix[file.suffix.lower()].append(file)
    for suffix, files in by_suffix.items():
        guesses += [_FIRST_GUESS[suffix]] if files and suffix in _FIRST_GUESS else []
        looked_into = files[:: max(1, len(files) // _SAMPLE)]
        for file in looked_into:
            if kind := _KINDS[suffix](file):
                kinds.setdefault(kind, []).append(file)
                counts[kind] += len(files) / len(looked_into)
    if len(kinds) > 1:  # one file of many images weighs as much as that many files
        for kind, mark in (("coco", b'"file_name"'), ("csv", b"\n")):
            if kind in kinds:
                counts[kind] = 0
                for file in kinds[kind]:
                    with open_named(file) as stream:  # by its beginning
                        head = stream.read(_COUNTED)
                        size = stream.seek(0, os.SEEK_END)
                    counts[kind] += head.count(mark) * max(1.0, size / max(1, len(head)))
    most = max(counts.values(), default=0)
    found = [kind for kind in _NAMES.split(", ") if counts[kind] > _STRAY_SHARE * most]
    if not found and counts:
        found = counts.most_common(1)[0][:1]
    yamls = [] if found else [file for file in path.iterdir() if file.suffix.lower() in (".yaml", ".yml")]
    if not found and (
        find_names_files(path) or (path / "labels").is_dir() or any("names" in read_yaml(file) for file in yamls)
    ):
        found = ["yolo"]
    found = found or guesses[:1]
    if not found:
        raise SetupError(
            f"{path} holds none of the known formats: XML (voc), data.yaml or label files with names (yolo), "
            "JSON (coco, labelme) or CSV (csv)."
        )
    if len(found) > 1:
        raise SetupError(f"{path} holds more than one format ({', '.join(found)}): say which with DATASETS.FORMAT.")
    return _refuse_foreign(found[0], kinds.get(found[0], [path])[0])


def _refuse_foreign(kind: str, file: Path) -> str:
    if kind in _FOREIGN:
        raise SetupError(f"{file} is {_FOREIGN[kind]}.")
    return kind


def kind_of_json(file: Path) -> str:
    """The format "coco" or "labelme", or the tool that writes such JSON; "" for none."""
    ends = _ends_of(file)
    kind = next((kind for kind, keys in _JSON_KEYS if re.search(keys, ends)), "")
    return kind or ("coco" if sum(bool(re.search(key, ends)) for key in _COCO_KEYS) > 1 else "")


def _kind_of_xml(file: Path) -> str:
    tag = re.search(rb"<([A-Za-z_][^\s/>]*)", _ends_of(file).replace(b"\0", b""))
    return {b"annotation": "voc", b"annotations": "cvat"}.get(tag[1] if tag else b"", "")


def _kind_of_csv(file: Path) -> str:
    if b"region_shape_attributes" in _ends_of(file):
        return "via"
    return "csv" if is_box_file(file) else ""


def _ends_of(file: Path) -> bytes:
    """The first and last bytes of a file."""
    with open_named(file) as stream:
        head = stream.read(_ENDS)
        stream.seek(max(len(head), stream.seek(0, os.SEEK_END) - _ENDS))
        return head + b"\n" + stream.read(_ENDS)


# Suffix -> the format of such a file, or a key of _FOREIGN; "" for neither.
_KINDS: dict[str, Callable[[Path], str]] = {
    ".xml": _kind_of_xml,
    ".json": kind_of_json,
    ".txt": lambda file: "yolo" if are_labels(file) else "",
    ".csv": _kind_of_csv,
    ".ndjson": lambda file: "labelbox",
    ".tfrecord": lambda file: "tfrecord",
    ".yaml": lambda file: "",
    ".yml": lambda file: "",
    ".data": lambda file: "",
}
# The reader that names the fault of a file of unknown content.
_FIRST_GUESS = {".xml": "voc", ".json": "coco", ".csv": "csv"}
