"""Read predictions: those of any detector as arrays, and those of an evaluation as Detectron2's ``Instances``."""

import json
import logging
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from ..data.safe_json import is_number, load_json
from ..errors import SetupError, name_some
from .boxes import Detections, Truth
from .origin import check_origin
from .predicted_files import from_predict_csv, from_predict_json, is_predict_json

__all__ = ["read_coco_results", "read_detections"]

logger = logging.getLogger(__name__)

MOST_BEYOND = 0.1  # share of boxes out of their image without a warning; detectors clip theirs


def read_coco_results(path: str | Path, dataset_name: str, records: list[dict]) -> list[Instances]:
    """Read COCO results JSON.

    Args:
        path: a ``coco_instances_results.json``.
        dataset_name: data set whose metadata maps category ids to classes.
        records: the images to return, in Detectron2's dataset format.

    Returns:
        one ``Instances`` per record, in original pixels, best score first; empty for an image without detections.
    """
    per_image = defaultdict(list)
    for result in json.loads(Path(path).read_text(encoding="utf-8")):
        per_image[result["image_id"]].append(result)
    class_of = MetadataCatalog.get(dataset_name).get("thing_dataset_id_to_contiguous_id") or {}
    instances = []
    for record in records:
        found = sorted(per_image[record["image_id"]], key=lambda result: -result["score"])
        boxes = torch.tensor([result["bbox"] for result in found]).reshape(-1, 4)
        instances.append(
            Instances(
                (record["height"], record["width"]),
                pred_boxes=Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)),
                scores=torch.tensor([result["score"] for result in found]),
                pred_classes=torch.tensor(
                    [class_of.get(result["category_id"], result["category_id"]) for result in found], dtype=torch.long
                ),
            )
        )
    return instances


def read_detections(path: str | Path, truth: Truth) -> Detections:
    """Read COCO results (a JSON list of image_id, category_id, bbox as XYWH, and score) or a file of retina predict.

    Raises:
        SetupError: the file has another form, a value is missing or not a finite number, ``truth`` lacks an image or
            class, or an evaluation made the detections for another set.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise SetupError(f"the predictions {path} {kind}: give a COCO results file (coco_instances_results.json).")
    name_of = check_origin(path, truth)
    if path.suffix.lower() == ".csv":
        entries = from_predict_csv(path, truth)
    else:
        try:
            entries = load_json(path)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise SetupError(f"the predictions {path} are not valid JSON: {error}.") from error
        if is_predict_json(entries):
            entries = from_predict_json(path, entries, truth)
    if not isinstance(entries, list):
        hint = " This looks like ground truth." if isinstance(entries, dict) and "annotations" in entries else ""
        raise SetupError(
            f"the predictions {path} must be a list of image_id, category_id, bbox and score (COCO results), "
            f"got {type(entries).__name__}.{hint}"
        )
    image_of = {image_id: i for i, image_id in enumerate(truth.image_ids)}
    for i, entry in enumerate(entries):
        _check_entry(entry, f"{path}: detection {i + 1}")
    _check_known(entries, "image_id", image_of, "images", f"{path}", truth)
    _check_known(entries, "category_id", name_of, "categories", f"{path}", truth)
    number = {name: k for k, name in enumerate(truth.class_names)}
    class_of = {class_id: number[name] for class_id, name in name_of.items() if name in number}
    entries = [entry for entry in entries if entry["category_id"] in class_of]  # others have no box here
    images = np.array([image_of[entry["image_id"]] for entry in entries], dtype=np.int64)
    scores = np.array([entry["score"] for entry in entries], dtype=float)
    found = Detections(
        images=images,
        classes=np.array([class_of[entry["category_id"]] for entry in entries], dtype=np.int64),
        boxes=np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4),
        scores=scores,
    )
    _warn_of_other_units(path, found, truth)
    return found.where(np.lexsort((-scores, images)))  # a stable sort


def _warn_of_other_units(path: Path, found: Detections, truth: Truth) -> None:
    """Warn of scores in percent, and of corners in place of width and height."""
    if len(found) and found.scores.max() > 1:
        logger.warning("%s has scores above 1, such as %g: are they in percent?", path, found.scores.max())
    ends, sizes = found.boxes[:, :2] + found.boxes[:, 2:], truth.sizes[found.images]
    beyond = (ends > sizes + 1).any(axis=1)
    if len(found) and beyond.mean() > MOST_BEYOND:
        fits = (found.boxes[:, 2:] <= sizes + 1).all(axis=1) & (found.boxes[:, 2:] >= found.boxes[:, :2]).all(axis=1)
        hint = ": bbox must be x, y, width, height, and these look like x1, y1, x2, y2" if fits.all() else ""
        logger.warning("%s: %d of %d boxes reach out of their image%s", path, beyond.sum(), len(found), hint)


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise SetupError(f"{where} must be an object with image_id, category_id, bbox and score, got {entry!r}.")
    missing = [key for key in ("image_id", "category_id", "bbox", "score") if key not in entry]
    if missing:
        raise SetupError(f"{where} has no {missing[0]}: {str(entry)[:120]}.")
    if not _finite(entry["score"]):
        raise SetupError(f"{where} must have a finite number as score, got {repr(entry['score'])[:80]}.")
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)) or min(box[2:]) < 0:
        raise SetupError(
            f"{where} must have bbox [x, y, width, height] in pixels, sides of 0 or more, got {repr(box)[:80]}."
        )


def _finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


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
