"""COCO's twelve metrics of boxes, precision by recall and class, AP by size and shape, and the matches.

hotcoco or pycocotools does the scoring (``evaluation/coco_evaluator.py``), with more size ranges than COCO's.
"""

import contextlib
import io
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from pycocotools.coco import COCO

from .boxes import Detections, Truth
from .coco_evaluator import PycocotoolsEval, hotcoco_module, hotcoco_truth

__all__ = ["AT_50", "AT_75", "RECALLS", "SIZES", "THRESHOLDS", "Bin", "Scores", "known", "mean_of_known", "score"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's IoU thresholds
RECALLS = np.linspace(0, 1, 101)  # COCO's recalls
AT_50, AT_75 = 0, 5  # indices into THRESHOLDS
FAR = 1e5  # COCO's "no limit" for the side of a box
# Square root of the area, pixels. SIZES halves COCO's ranges and adds one for the large images of today.
COCO_SIZES = {"all": (0, FAR), "small": (0, 32), "medium": (32, 96), "large": (96, FAR)}
SIDES = (0, 8, 16, 32, 64, 96, 128, 256, 512, FAR)
SIZES = {
    f"{low:g} to {high:g}" if high < FAR else f"{low:g} and more": (low, high)
    for low, high in zip(SIDES, SIDES[1:], strict=False)
}
# Width / height. 3/4 and 4/3 are TIDE's bounds of tall, square and wide; 1/3 and 3 split off thin boxes.
ASPECTS = {
    "thin, upright (below 1:3)": (0, 1 / 3),
    "upright (1:3 to 3:4)": (1 / 3, 3 / 4),
    "square (3:4 to 4:3)": (3 / 4, 4 / 3),
    "lying (4:3 to 3:1)": (4 / 3, 3),
    "thin, lying (3:1 and more)": (3, FAR),
}


@dataclass(frozen=True)
class Bin:
    """AP of the objects in a range of sizes or shapes, in percent; None if there is no such object."""

    name: str
    low: float
    high: float
    boxes: int
    ap: float | None
    ap50: float | None


@dataclass(frozen=True)
class Scores:
    """Metrics in percent; None or NaN if there is nothing to score. T = 10 IoU thresholds, R = 101 recalls."""

    package: str
    summary: dict[str, float | None]
    precision: np.ndarray  # (T, R, K) in [0, 1]; NaN for a class without boxes
    class_ap: np.ndarray  # (K,)
    class_ap50: np.ndarray
    class_ap75: np.ndarray
    sizes: list[Bin]
    aspects: list[Bin]
    counted: np.ndarray  # (D,) True within COCO's limit of detections
    right: np.ndarray  # (T, D) matched to a box
    ignored: np.ndarray  # (T, D) in a crowd, so neither right nor wrong


def score(truth: Truth, found: Detections, *, limit: int) -> Scores:
    """Score detections as COCO and Detectron2 do.

    Args:
        limit: number of detections for each image and class that count (COCO: 100).
    """
    areas = truth.areas, found.boxes[:, 2] * found.boxes[:, 3]
    evaluation, package = _evaluate(truth, found, *areas, _squared(COCO_SIZES) + _squared(SIZES), limit)
    precision, recall = (_numbers(evaluation.eval[key]) for key in ("precision", "recall"))
    # A second run with one range gives the matches: they are an object for each image, class and range, which is slow.
    matching, _ = _evaluate(truth, found, *areas, _squared(COCO_SIZES)[:1], limit)
    # COCOeval compares its ranges with the numbers given as areas; here these are width / height.
    shapes, _ = _evaluate(truth, found, _aspects(truth.boxes), _aspects(found.boxes), list(ASPECTS.values()), limit)
    # COCO's twelve metrics, with Detectron2's names for AP. precision: (T, R, K, sizes, limits), recall: (T, K, ...).
    metrics = {
        "AP": precision[:, :, :, 0, -1],
        "AP50": precision[AT_50, :, :, 0, -1],
        "AP75": precision[AT_75, :, :, 0, -1],
        **{f"AP{size[0]}": precision[:, :, :, i, -1] for i, size in enumerate(COCO_SIZES) if i},
        **{f"AR@{number}": recall[:, :, 0, i] for i, number in enumerate(_limits(limit))},
        **{f"AR{size[0]}": recall[:, :, i, -1] for i, size in enumerate(COCO_SIZES) if i},
    }
    return Scores(
        package=package,
        summary={name: _percent(values) for name, values in metrics.items()},
        precision=precision[:, :, :, 0, -1],
        class_ap=100 * mean_of_known(precision[:, :, :, 0, -1], (0, 1)),
        class_ap50=100 * mean_of_known(precision[AT_50, :, :, 0, -1], 0),
        class_ap75=100 * mean_of_known(precision[AT_75, :, :, 0, -1], 0),
        sizes=_bins(SIZES, np.sqrt(truth.areas[~truth.crowd]), precision[:, :, :, len(COCO_SIZES) :, -1]),
        aspects=_bins(ASPECTS, _aspects(truth.boxes)[~truth.crowd], _numbers(shapes.eval["precision"])[..., -1]),
        **_matches(matching.evalImgs, len(found)),
    )


def _limits(limit: int) -> list[int]:
    """Return COCO's limits of detections, of which AP uses the last; unlike in Detectron2, none exceeds ``limit``."""
    return sorted({1, min(10, limit), limit})


def _squared(ranges: dict) -> list[tuple[float, float]]:
    return [(low**2, high**2) for low, high in ranges.values()]


def _aspects(boxes: np.ndarray) -> np.ndarray:
    """Compute width / height, at most FAR, so that a box without height has a shape too."""
    width, height = boxes[:, 2], boxes[:, 3]
    return np.divide(width, height, out=np.full(len(boxes), FAR), where=height > 0).clip(max=FAR)


def _evaluate(truth: Truth, found: Detections, gt_areas, areas, ranges: list, limit: int):
    """Run COCOeval with ``ranges`` of areas; return it, accumulated, and the package's name and version."""
    images = [{"id": i} for i in range(len(truth.image_ids))]
    categories = [{"id": k, "name": str(k)} for k in range(len(truth.class_ids))]
    # Numbered anew, since both packages bound an id; 0 stays, which pycocotools takes for no match.
    ids = np.where(truth.annotation_ids == 0, 0, np.arange(1, len(truth.boxes) + 1))
    annotations = _entries(ids, truth, gt_areas, crowd=truth.regions)
    for i in np.flatnonzero(truth.crowd & ~truth.regions).tolist():
        annotations[i]["difficult"] = 1
    results = _entries(np.arange(1, len(found) + 1), found, areas, score=found.scores)
    content = {"images": images, "annotations": annotations, "categories": categories}
    results = {"images": images, "annotations": results, "categories": categories}
    hotcoco = hotcoco_module()
    ground_truth = hotcoco and hotcoco_truth(hotcoco, content)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        if ground_truth:
            evaluation = hotcoco.COCOeval(ground_truth, hotcoco.COCO(results), "bbox")
        else:
            evaluation = PycocotoolsEval(_coco(content), _coco(results), "bbox")
        evaluation.params.areaRng = [list(map(float, bounds)) for bounds in ranges]
        evaluation.params.areaRngLbl = [str(i) for i in range(len(ranges))]
        evaluation.params.maxDets = _limits(limit)
        evaluation.evaluate()
        evaluation.accumulate()
    name = "hotcoco" if ground_truth else "pycocotools"
    return evaluation, f"{name} {version(name)}"


def _entries(ids: np.ndarray, boxes: Truth | Detections, areas, crowd=None, score=None) -> list[dict]:
    crowd = np.zeros(len(ids), dtype=int) if crowd is None else crowd.astype(int)
    columns = {
        "id": ids, "image_id": boxes.images, "category_id": boxes.classes, "bbox": boxes.boxes, "area": areas,
        "iscrowd": crowd, **({} if score is None else {"score": score}),
    }  # fmt: skip
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _coco(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def _numbers(values) -> np.ndarray:
    """Replace -1, COCO's mark for an undefined value, by NaN."""
    values = np.asarray(values, dtype=float)
    return np.where(values > -1, values, np.nan)


def mean_of_known(values: np.ndarray, axis=None):
    """Compute the mean of the values that are not NaN; NaN if there are none."""
    is_known = ~np.isnan(values)
    number = is_known.sum(axis=axis)
    total = np.where(is_known, values, 0).sum(axis=axis)
    return np.divide(total, number, out=np.full_like(np.asarray(total, float), np.nan), where=number > 0)


def known(value: float) -> float | None:
    """Replace NaN by None."""
    return None if np.isnan(value) else float(value)


def _percent(values: np.ndarray) -> float | None:
    return known(100 * mean_of_known(values))


def _bins(ranges: dict, values: np.ndarray, precision: np.ndarray) -> list[Bin]:
    """Compute a Bin for each range from the boxes' values (without crowds) and precision (T, R, K, ranges)."""
    bins = []
    for i, (name, (low, high)) in enumerate(ranges.items()):
        inside = int(((values >= low) & (values <= high)).sum())  # both ends belong to a range, as in COCO
        bins.append(Bin(name, low, high, inside, _percent(precision[..., i]), _percent(precision[AT_50, ..., i])))
    return bins


def _matches(per_image: list, number: int) -> dict[str, np.ndarray]:
    """Turn COCO's matches of one range of sizes into arrays over detections."""
    T = len(THRESHOLDS)
    counted = np.zeros(number, dtype=bool)
    right, ignored = np.zeros((T, number), dtype=bool), np.zeros((T, number), dtype=bool)
    entries = [entry for entry in per_image if entry is not None and len(entry["dtIds"])]
    if entries:
        detections = np.concatenate([entry["dtIds"] for entry in entries]).astype(int) - 1
        matched, excused = (
            np.concatenate([np.asarray(entry[key]).reshape(T, -1) for entry in entries], axis=1).astype(np.int64)
            for key in ("dtMatches", "dtIgnore")
        )
        counted[detections] = True
        ignored[:, detections] = excused
        right[:, detections] = (matched > 0) & ~ignored[:, detections]
    return {"counted": counted, "right": right, "ignored": ignored}
