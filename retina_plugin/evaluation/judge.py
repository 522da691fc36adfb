"""All figures of one set of detections, and their files: JSON for programs, CSV for tables."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..files import write_csv, write_json
from .boxes import Detections, Truth
from .coco_scores import AT_50, AT_75, RECALLS, Scores, score
from .error_types import ERRORS, ErrorBreakdown, break_down
from .mistakes import ImageMistakes, confusion_matrix, mistakes_per_image
from .score_use import Calibration, OperatingPoint, best_points, calibration

__all__ = ["Judgement", "class_rows", "curves", "judge", "write_figures"]

FALLBACK_THRESHOLD = 0.5  # where no threshold finds anything


@dataclass(frozen=True)
class Judgement:
    """What was found of one set of detections."""

    truth: Truth
    found: Detections
    scores: Scores
    errors: ErrorBreakdown
    calibration: Calibration
    point: OperatingPoint | None  # with the best F1 of all classes together
    class_points: list[OperatingPoint | None]
    threshold: float  # from which on the confusion matrix and the mistakes count
    confusion: np.ndarray
    mistakes: ImageMistakes


def judge(truth: Truth, found: Detections, *, limit: int, threshold: float | None = None) -> Judgement:
    """Compute every figure.

    Args:
        limit: detections of an image that count.
        threshold: score from which on a detection is shown and counted as one; None takes the best F1's.
    """
    scores = score(truth, found, limit=limit)
    point, class_points = best_points(truth, found, scores)
    if threshold is None:
        threshold = point.threshold if point else FALLBACK_THRESHOLD
    return Judgement(
        truth=truth,
        found=found,
        scores=scores,
        errors=break_down(truth, found.best(limit)),
        calibration=calibration(truth, found, scores),
        point=point,
        class_points=class_points,
        threshold=threshold,
        confusion=confusion_matrix(truth, found.best(limit), threshold),
        mistakes=mistakes_per_image(truth, found, scores, threshold),
    )


def class_rows(judgement: Judgement) -> list[dict]:
    """A row for each class: what the table and the CSV show. Percent for AP, [0, 1] for the rest, None for unknown."""
    truth, scores = judgement.truth, judgement.scores
    counts, predicted = truth.class_counts, np.bincount(judgement.found.classes, minlength=len(truth.class_ids))
    rows = []
    for k, name in enumerate(truth.class_names):
        point = judgement.class_points[k]
        rows.append(
            {
                "class": name,
                "boxes": int(counts[k]),
                "predictions": int(predicted[k]),
                **{
                    key: _known(values[k])
                    for key, values in (
                        ("AP", scores.class_ap), ("AP50", scores.class_ap50), ("AP75", scores.class_ap75)
                    )
                },
                "threshold": point and point.threshold,
                "precision": point and point.precision,
                "recall": point and point.recall,
                "F1": point and point.f1,
            }
        )  # fmt: skip
    return rows


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def curves(precision: np.ndarray) -> dict[str, np.ndarray]:
    """Precision at 101 recalls of one class, at IoU 0.5, 0.75 and in the mean; from (T, R)."""
    return {"IoU 0.5": precision[AT_50], "IoU 0.75": precision[AT_75], "mean": precision.mean(axis=0)}


def write_figures(judgement: Judgement, folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and the CSV files into ``folder``, which must exist; the paths written."""
    tables = _tables(judgement)
    content = {name: [dict(zip(columns, row, strict=True)) for row in rows] for name, (columns, rows) in tables.items()}
    # In JSON the curves are lists by class.
    content["pr_curves"] = [
        {"class": name, "recall": RECALLS.tolist(), **{key: _list(c) for key, c in curves(precision).items()}}
        for name, precision in zip(
            judgement.truth.class_names, np.moveaxis(judgement.scores.precision, 2, 0), strict=True
        )
    ]
    head = {
        "ground_truth": judgement.truth.source,
        "num_images": len(judgement.truth.image_ids),
        "num_boxes": int(judgement.truth.class_counts.sum()),
        "num_detections": len(judgement.found),
        "scored_by": judgement.scores.package,
        "score_threshold": judgement.threshold,
        "best_point": judgement.point and asdict(judgement.point),
        "calibration_error": {
            key: getattr(judgement.calibration, key) for key in ("ece", "d_ece", "d_ece_count", "count", "note")
        },
    }
    write_json(folder / "evaluation.json", {**head, **content})
    for name, (columns, rows) in tables.items():
        write_csv(folder / f"{name}.csv", columns, rows)
    return [folder / "evaluation.json", *(folder / f"{name}.csv" for name in tables)]


def _list(values: np.ndarray) -> list | None:
    return None if np.isnan(values).any() else np.round(values, 6).tolist()


def _tables(judgement: Judgement) -> dict[str, tuple[list[str], list[list]]]:
    """Name -> columns and rows."""
    truth, errors, mistakes = judgement.truth, judgement.errors, judgement.mistakes
    classes = class_rows(judgement)
    lost = [[name, errors.counts[name], errors.lost[name]] for name in ERRORS]
    lost += [["all false positives", None, errors.false_positives], ["all misses", None, errors.false_negatives]]
    bins = [
        [kind, b.name, b.low, b.high, b.boxes, b.ap, b.ap50]
        for kind, group in (("size", judgement.scores.sizes), ("aspect", judgement.scores.aspects))
        for b in group
    ]
    names = [*truth.class_names, "(background)"]
    confused = [
        [names[i], names[j], int(judgement.confusion[i, j])] for i, j in np.argwhere(judgement.confusion).tolist()
    ]
    per_image = [
        [truth.image_ids[i], truth.file_names[i], int(mistakes.missed[i]), int(mistakes.wrong[i]),
         float(mistakes.wrong_scores[i])]
        for i in range(len(truth.image_ids))
    ]  # fmt: skip
    points = [
        [name, float(recall), *(float(curve[r]) for curve in curves(precision).values())]
        for name, precision in zip(truth.class_names, np.moveaxis(judgement.scores.precision, 2, 0), strict=True)
        if not np.isnan(precision).any()
        for r, recall in enumerate(RECALLS)
    ]
    bin_keys = ["low", "high", "count", "score", "right"]
    return {
        "ap": (["metric", "percent"], [list(item) for item in judgement.scores.summary.items()]),
        "classes": (list(classes[0]), [list(row.values()) for row in classes]),
        "size_and_aspect": (["kind", "range", "low", "high", "boxes", "AP", "AP50"], bins),
        "errors": (["error", "count", "AP50_lost"], lost),
        "confusion": (["truth", "predicted", "count"], confused),
        "calibration": (bin_keys, [[b[key] for key in bin_keys] for b in judgement.calibration.bins]),
        "images": (["image_id", "file_name", "missed", "wrong", "sum_of_wrong_scores"], per_image),
        "pr_curves": (["class", "recall", "IoU_0.5", "IoU_0.75", "mean"], points),
    }
