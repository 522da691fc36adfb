"""Inputs of an evaluation as arrays: annotated boxes, read from COCO JSON and checked, and detections."""

import hashlib
import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..data.coco import is_difficult, read_coco
from ..errors import SetupError
from ..findings import raise_first_error

__all__ = ["Detections", "Truth", "read_truth"]

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
    annotation_ids: np.ndarray  # (M,) objects: numbers of any size
    images: np.ndarray  # (M,) in [0, N), ascending
    classes: np.ndarray  # (M,) in [0, K)
    boxes: np.ndarray  # (M, 4) XYWH, pixels
    areas: np.ndarray  # (M,) square pixels, as annotated: the area of the mask if there is one
    crowd: np.ndarray  # (M,) True where detections are not scored: a region of many objects, or an object so marked
    difficult: np.ndarray | None = None  # (M,) True for the latter: VOC's "difficult"; None if there are none

    @property
    def class_counts(self) -> np.ndarray:
        """Number of boxes of each class, (K,), without crowds."""
        return np.bincount(self.classes[~self.crowd], minlength=len(self.class_ids))

    @property
    def classes_with_boxes(self) -> set[str]:
        return {self.class_names[k] for k in np.unique(self.classes)}

    @property
    def regions(self) -> np.ndarray:
        """(M,) True for regions of many objects: the IoU with one is the part of a detection inside."""
        return self.crowd if self.difficult is None else self.crowd & ~self.difficult

    def with_classes(self, ids: dict[str, int]) -> "Truth":
        """Give the classes other ids (name -> id, in the order of the classes); those without a box may be left out."""
        at = {name: k for k, name in enumerate(ids)}
        classes = np.array([at[self.class_names[k]] for k in self.classes.tolist()], dtype=np.int64)
        return replace(self, class_names=list(ids), class_ids=list(ids.values()), classes=classes)

    def fingerprint(self) -> str:
        """Compute a hash of the content: ids and sizes of the images, ids and names of the classes, and the boxes.

        The order of records, the names of files and where they lie do not matter.
        """
        boxes = np.column_stack([self.images, self.classes, self.crowd, self.boxes.round(3)])
        content = {
            "images": list(zip(self.image_ids, self.sizes.tolist(), strict=True)),
            "classes": list(zip(self.class_ids, self.class_names, strict=True)),
            "boxes": boxes[np.lexsort(boxes.T[::-1])].tolist(),
        }
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


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


def read_truth(
    path: str | Path, image_root: str | Path = "", *, allow_outside: bool = False, quiet: bool = False
) -> Truth:
    """Read COCO JSON, with the checks that a training makes of its test set.

    Args:
        image_root: folder of the images; "" if no image will be opened.
        allow_outside: allow image names that lead outside it (DATASETS.ALLOW_OUTSIDE_PATHS).
        quiet: log no warning, of a set that has been checked before.

    Raises:
        SetupError: the first mistake in the file, or that it is not a COCO file of boxes.
    """
    path = str(path)
    if not os.path.exists(path):
        raise SetupError(f"the ground truth {path} does not exist: give the COCO JSON file of the annotated boxes.")
    coco = read_coco(_NAME, path, for_scoring=True)
    for warning in raise_first_error(coco.findings):
        logger.log(logging.DEBUG if quiet else logging.WARNING, "%s", warning)
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
        annotation_ids=np.array([a["id"] for a in annotations], dtype=object),
        images=np.array([image_of[a["image_id"]] for a in annotations], dtype=np.int64),
        classes=np.array([coco.class_of[a["category_id"]] for a in annotations], dtype=np.int64),
        boxes=np.array([a["bbox"] for a in annotations], dtype=float).reshape(-1, 4),
        areas=np.array([a["area"] for a in annotations], dtype=float),
        crowd=np.array([bool(a["iscrowd"] or is_difficult(a)) for a in annotations], dtype=bool),
        difficult=np.array([is_difficult(a) for a in annotations], dtype=bool),
    )
    bad = ~np.isfinite(truth.boxes).all(axis=1) | (truth.boxes[:, 2:] < 0).any(axis=1)
    if bad.any():
        i = int(bad.argmax())
        raise SetupError(
            f"{_NAME}: {path}: bbox must be finite with width and height of 0 or more, got "
            f"{truth.boxes[i].tolist()} (annotation id {truth.annotation_ids[i]}; {bad.sum()} such boxes)."
        )
    return truth
