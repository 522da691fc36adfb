"""The files of ``retina predict`` (``predictions.json``, ``predictions.csv``) as COCO results of a ground truth.

Images are matched by the names of their files and classes by their names: ``retina predict`` knows no ids of a set.
"""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.formats.files import read_lines
from ..data.formats.pairing import common_end, fold_parts
from ..errors import SetupError, name_some
from .boxes import Truth

__all__ = ["from_predict_csv", "from_predict_json", "is_predict_json"]

logger = logging.getLogger(__name__)

COLUMNS = ("file", "label", "score", "x1", "y1", "x2", "y2")
MOST_MISSING = 0.1  # share of the images that may lack predictions
HIGH_SCORE = 0.1  # AP needs detections with lower scores too; the detectors here give them from 0.05 on
SHOWN = 3


@dataclass
class Predicted:
    """The content of one file."""

    path: Path
    sizes: dict[str, tuple[float, float] | None]  # file name -> width and height of each image; None if unknown
    lists_every_image: bool  # also those without detections
    detections: list[tuple[str, str, Any, Any]]  # file name, label, bbox (XYWH) and score, neither checked
    least_score: float | None  # no lower score was kept


def is_predict_json(content: Any) -> bool:
    """True for a COCO data set whose annotations have scores, such as ``predictions.json``."""
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "categories", "annotations")
    ):
        return False
    return all(isinstance(annotation, dict) and "score" in annotation for annotation in content["annotations"])


def from_predict_json(path: Path, content: dict, truth: Truth) -> list[dict]:
    """Turn the content of ``predictions.json`` into COCO results with the ids of ``truth``.

    Raises:
        SetupError: a record lacks a value, or images or classes do not match those of ``truth``.
    """
    try:
        labels = {category["id"]: str(category["name"]) for category in content["categories"]}
        names = {image["id"]: _frame_name(image["file_name"], image.get("frame")) for image in content["images"]}
        sizes = {names[image["id"]]: (image["width"], image["height"]) for image in content["images"]}
        detections = [
            (names[entry["image_id"]], labels[entry["category_id"]], entry["bbox"], entry["score"])
            for entry in content["annotations"]
        ]
    except (KeyError, TypeError) as error:
        raise SetupError(
            f"{path} must have the form of retina predict (images with id, file_name, width and height, categories "
            f"with id and name, annotations with image_id, category_id, bbox and score), got {error!r}."
        ) from error
    info = content.get("info")
    least = info.get("score_threshold") if isinstance(info, dict) else None
    least = least if isinstance(least, (int, float)) else None
    return _as_results(Predicted(path, sizes, True, detections, least), truth)


def from_predict_csv(path: Path, truth: Truth) -> list[dict]:
    """Turn the content of ``predictions.csv`` into COCO results with the ids of ``truth``.

    Raises:
        SetupError: a column or a number is missing, or images or classes do not match those of ``truth``.
    """
    reader = csv.DictReader(read_lines(path))
    lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if lacking:
        raise SetupError(
            f"{path} has no column {lacking[0]}: give predictions.csv of retina predict ({', '.join(COLUMNS)}), or "
            "COCO results as JSON."
        )
    detections = []
    for row in reader:
        try:
            x1, y1, x2, y2, score = (float(row[key]) for key in ("x1", "y1", "x2", "y2", "score"))
        except (TypeError, ValueError):
            raise SetupError(f"{path}:{reader.line_num}: score, x1, y1, x2 and y2 must be numbers.") from None
        name = _frame_name(row["file"], row.get("frame") or None)
        detections.append((name, row["label"], [x1, y1, x2 - x1, y2 - y1], score))
    scores = [score for *_, score in detections]
    sizes = {name: None for name, *_ in detections}
    return _as_results(Predicted(path, sizes, False, detections, min(scores, default=None)), truth)


def _frame_name(file_name: str, frame: Any) -> str:
    """Name an image; a frame of a video matches no image by its name."""
    return file_name if frame is None else f"{file_name}, frame {frame}"


def _as_results(predicted: Predicted, truth: Truth) -> list[dict]:
    image_of = _match_images(predicted, truth)
    class_of = _match_classes(predicted, truth)
    if predicted.least_score is not None and predicted.least_score > HIGH_SCORE:
        logger.warning(
            "%s has no detection with a score below %g, and AP counts those too: for the full AP give retina predict "
            "--score 0.05",
            predicted.path,
            predicted.least_score,
        )
    return [
        {
            "image_id": truth.image_ids[image_of[name]],
            "category_id": truth.class_ids[class_of[label]],
            "bbox": bbox,
            "score": score,
        }
        for name, label, bbox, score in predicted.detections
        if name in image_of and label in class_of
    ]


def _match_images(predicted: Predicted, truth: Truth) -> dict[str, int]:
    """Match predicted images to those of ``truth``: name -> index; images of neither side alone are left out.

    Raises:
        SetupError: too few match, two match one, or a size differs.
    """
    image_of = match_names(list(predicted.sizes), truth.file_names)
    path, total = predicted.path, len(truth.file_names)
    found = Counter(image_of.values())
    missing = [name for i, name in enumerate(truth.file_names) if i not in found]
    others = [name for name in predicted.sizes if name not in image_of]
    # A CSV file lacks images without detections, so there images of other names are needed to tell a mistake.
    enough = len(missing) <= MOST_MISSING * total or (
        not predicted.lists_every_image and len(others) <= MOST_MISSING * len(predicted.sizes)
    )
    if not enough or (predicted.sizes and not image_of):
        raise SetupError(
            f"{path} has predictions for {total - len(missing)} of the {total} images of {truth.source}, by the names "
            f"of the files. Without predictions: {name_some(missing, SHOWN)}; predicted: "
            f"{name_some(others or predicted.sizes, SHOWN)}. Predict on the images of this set."
        )
    if twice := [i for i, number in found.items() if number > 1]:
        names = [name for name, i in image_of.items() if i == twice[0]]
        raise SetupError(
            f"{path}: {' and '.join(names[:2])} both match {truth.file_names[twice[0]]} of {truth.source}: predict on "
            "the images of this set alone."
        )
    for name, i in image_of.items():
        size, known = predicted.sizes[name], tuple(truth.sizes[i])
        if size is not None and size != known:
            raise SetupError(
                f"{path}: {name} has {size[0]} x {size[1]} pixels, and {known[0]:g} x {known[1]:g} in {truth.source}: "
                "predict on the images as they were annotated."
            )
    if missing and predicted.lists_every_image:
        logger.warning(
            "%s has no predictions for %d of %d images (%s): their boxes count as missed",
            path, len(missing), total, name_some(missing, SHOWN),
        )  # fmt: skip
    if others:
        logger.warning(
            "%s: %d x image that is not in %s (%s), left out", path, len(others), truth.source, name_some(others, SHOWN)
        )
    return image_of


def match_names(names: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Match names of files to ``known`` ones: name -> index, for those that match one.

    Letter case, Unicode forms and the kind of separators do not matter. Of several files with the same name in
    different folders the one with the longest common end of the path counts.
    """
    parts_of = [fold_parts(name) for name in known]
    by_last: dict[str, list[int]] = {}
    for i, parts in enumerate(parts_of):
        by_last.setdefault(parts[-1], []).append(i)
    found = {}
    for name in names:
        parts = fold_parts(name)
        common = {i: common_end(parts, parts_of[i]) for i in by_last.get(parts[-1], ())}
        best = [i for i, length in common.items() if length == max(common.values())]
        if len(best) == 1:
            found[name] = best[0]
    return found


def _match_classes(predicted: Predicted, truth: Truth) -> dict[str, int]:
    """Match labels to the classes of ``truth``: label -> class; detections of other classes are left out.

    Raises:
        SetupError: no label matches.
    """
    exact = {name: k for k, name in enumerate(truth.class_names)}
    loose = {name.strip().casefold(): k for name, k in exact.items()}
    counts = Counter(label for _, label, *_ in predicted.detections)
    class_of = {}
    for label in counts:
        k = exact.get(label, loose.get(label.strip().casefold()))
        if k is not None:
            class_of[label] = k
    if counts and not class_of:
        raise SetupError(
            f"{predicted.path} has the classes {name_some(counts)}, and {truth.source} has {name_some(exact)}: none "
            "matches by its name. Give the ground truth with these classes, or rename them in one of the files."
        )
    if others := [label for label in counts if label not in class_of]:
        logger.warning(
            "%s: %d x detection of a class that %s does not have (%s), left out",
            predicted.path, sum(counts[label] for label in others), truth.source, name_some(others),
        )  # fmt: skip
    return class_of
