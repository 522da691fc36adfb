"""Inputs of an evaluation: annotated boxes and detections, read from COCO JSON, checked, as arrays."""

import json
import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.coco import read_coco
from ..data.safe_json import load_json
from ..errors import SetupError, name_some
from ..findings import raise_first_error

__all__ = ["Detections", "Truth", "read_detections", "read_truth"]

logger = logging.getLogger(__name__)

_NAME = "ground truth"  # first words of the messages


@dataclass(frozen=True)
class Truth:
    """N images, K classes and M annotated boxes; images and classes are numbered by ascending id, as in COCO."""

    source: str
    image_ids: list
    file_names: list[str]  # as in the file
    sizes: np.ndarray  # (N, 2) width and height, pixels
    class_ids: list[int]
    class_names: list[str]
    annotation_ids: np.ndarray  # (M,)
    images: np.ndarray  # (M,) in [0, N), ascending
    classes: np.ndarray  # (M,) in [0, K)
    boxes: np.ndarray  # (M, 4) XYWH, pixels
    areas: np.ndarray  # (M,) square pixels, as annotated: the area of the mask if there is one
    crowd: np.ndarray  # (M,) True for a region of many objects, in which detections are not scored

    @property
    def class_counts(self) -> np.ndarray:
        """Number of boxes of each class, (K,), without crowds."""
        return np.bincount(self.classes[~self.crowd], minlength=len(self.class_ids))


@dataclass(frozen=True)
class Detections:
    """D detections, sorted by image, best score first; equal scores keep the order of the file."""

    images: np.ndarray  # (D,) in [0, N), ascending
    classes: np.ndarray  # (D,) in [0, K)
    boxes: np.ndarray  # (D, 4) XYWH, pixels
    scores: np.ndarray  # (D,)

    def __len__(self) -> int:
        return len(self.scores)

    def best(self, limit: int) -> "Detections":
        """Keep the ``limit`` best detections of each image."""
        firsts = np.searchsorted(self.images, self.images)  # index of the first detection of the same image
        return self.where(np.arange(len(self)) - firsts < limit)

    def where(self, mask: np.ndarray) -> "Detections":
        """Keep the detections where a (D,) mask is True."""
        return replace(self, **{name: getattr(self, name)[mask] for name in ("images", "classes", "boxes", "scores")})


def read_truth(path: str | Path, image_root: str | Path = "", *, allow_outside: bool = False) -> Truth:
    """Read COCO JSON, with the checks that a training makes of its test set.

    Args:
        image_root: folder of the images; "" if no image will be opened.
        allow_outside: allow image names that lead outside it (DATASETS.ALLOW_OUTSIDE_PATHS).

    Raises:
        SetupError: the first mistake in the file, or that it is not a COCO file of boxes.
    """
    path = str(path)
    if not os.path.exists(path):
        raise SetupError(f"the ground truth {path} does not exist: give the COCO JSON file of the annotated boxes.")
    coco = read_coco(_NAME, path, for_scoring=True)
    for warning in raise_first_error(coco.findings):
        logger.warning("%s", warning)
    coco.image_paths(str(image_root), allow_outside=allow_outside)
    images = sorted(coco.images, key=lambda image: image["id"])
    image_of = {image["id"]: i for i, image in enumerate(images)}
    annotations = [a for a in coco.annotations if a["image_id"] in image_of]
    annotations.sort(key=lambda annotation: image_of[annotation["image_id"]])
    truth = Truth(
        source=path,
        image_ids=[image["id"] for image in images],
        file_names=[image["file_name"] for image in images],
        sizes=np.array([(image["width"], image["height"]) for image in images], dtype=float),
        class_ids=list(coco.class_of),
        class_names=coco.class_names,
        annotation_ids=np.array([a["id"] for a in annotations], dtype=np.int64),
        images=np.array([image_of[a["image_id"]] for a in annotations], dtype=np.int64),
        classes=np.array([coco.class_of[a["category_id"]] for a in annotations], dtype=np.int64),
        boxes=np.array([a["bbox"] for a in annotations], dtype=float).reshape(-1, 4),
        areas=np.array([a["area"] for a in annotations], dtype=float),
        crowd=np.array([bool(a["iscrowd"]) for a in annotations], dtype=bool),
    )
    bad = ~np.isfinite(truth.boxes).all(axis=1) | (truth.boxes[:, 2:] < 0).any(axis=1)
    if bad.any():
        i = int(bad.argmax())
        raise SetupError(
            f"{_NAME}: {path}: bbox must be finite with width and height of 0 or more, got "
            f"{truth.boxes[i].tolist()} (annotation id {truth.annotation_ids[i]}; {bad.sum()} such boxes)."
        )
    return truth


def read_detections(path: str | Path, truth: Truth) -> Detections:
    """Read COCO results JSON: a list of image_id, category_id, bbox (XYWH, pixels) and score; it may be empty.

    Raises:
        SetupError: the file has another form, a value is missing or not a finite number, or ``truth`` lacks an image
            or class.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise SetupError(f"the predictions {path} {kind}: give a COCO results file (coco_instances_results.json).")
    try:
        entries = load_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"the predictions {path} are not valid JSON: {error}.") from error
    if not isinstance(entries, list):
        hint = " This looks like ground truth." if isinstance(entries, dict) and "annotations" in entries else ""
        raise SetupError(
            f"the predictions {path} must be a list of image_id, category_id, bbox and score (COCO results), "
            f"got {type(entries).__name__}.{hint}"
        )
    image_of = {image_id: i for i, image_id in enumerate(truth.image_ids)}
    class_of = {class_id: k for k, class_id in enumerate(truth.class_ids)}
    for i, entry in enumerate(entries):
        _check_entry(entry, f"{path}: detection {i + 1}")
    _check_known(entries, "image_id", image_of, "images", f"{path}", truth)
    _check_known(entries, "category_id", class_of, "categories", f"{path}", truth)
    images = np.array([image_of[entry["image_id"]] for entry in entries], dtype=np.int64)
    scores = np.array([entry["score"] for entry in entries], dtype=float)
    found = Detections(
        images=images,
        classes=np.array([class_of[entry["category_id"]] for entry in entries], dtype=np.int64),
        boxes=np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4),
        scores=scores,
    )
    return found.where(np.lexsort((-scores, images)))  # a stable sort


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise SetupError(f"{where} must be an object with image_id, category_id, bbox and score, got {entry!r}.")
    missing = [key for key in ("image_id", "category_id", "bbox", "score") if key not in entry]
    if missing:
        raise SetupError(f"{where} has no {missing[0]}: {str(entry)[:120]}.")
    if not _finite(entry["score"]):
        raise SetupError(f"{where} must have a finite number as score, got {entry['score']!r}.")
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)) or min(box[2:]) < 0:
        raise SetupError(f"{where} must have bbox [x, y, width, height] in pixels, sides of 0 or more, got {box!r}.")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_known(entries: list[dict], key: str, known: dict, what: str, path: str, truth: Truth) -> None:
    try:
        unknown = [entry[key] for entry in entries if entry[key] not in known]
    except TypeError as error:  # a list is not hashable
        raise SetupError(f"{path}: every {key} must be a number or text: {error}.") from error
    if unknown:
        raise SetupError(
            f"{path}: {len(unknown)} of {len(entries)} detections have an unknown {key}: {unknown[0]!r} is not among "
            f"the {what} of {truth.source} ({name_some(known)}). Give the ground truth that these predictions are for."
        )
