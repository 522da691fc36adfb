"""All measurements of one set of detections, written as JSON for programs and CSV for tables."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..files import write_csv, write_json
from .bootstrap import ap_intervals
from .boxes import Detections, Truth
from .calibration import Calibration, OperatingPoint, best_points, calibration
from .coco_scores import AT_50, AT_75, RECALLS, Scores, known, score
from .error_types import ErrorBreakdown, break_down
from .mistakes import UNMATCHED, ImageMistakes, confusion_matrix, mistakes_per_image, unmatched_detections

__all__ = ["FEWEST", "Evaluation", "class_rows", "curves", "evaluate_detections", "write_evaluation", "write_tables"]

FALLBACK_THRESHOLD = 0.5  # if no detection is correct
# Numbers of images with an interval of AP. Fewer are too few to draw from; with more the interval is narrow, and 1,000
# samples take longer than the scoring.
FEWEST, MOST = 10, 1000


@dataclass(frozen=True)
class Evaluation:
    """All measurements of one set of detections."""

    truth: Truth
    found: Detections
    scores: Scores
    errors: ErrorBreakdown
    calibration: Calibration
    point: OperatingPoint | None  # with the best F1 of all classes together
    class_points: list[OperatingPoint | None]
    threshold: float  # lowest score that counts in the confusion matrix and the mistakes
    confusion: np.ndarray
    unmatched: np.ndarray  # last row of ``confusion`` by kind
    mistakes: ImageMistakes
    intervals: dict[str, tuple[float, float]]  # 95 % intervals of AP and AP50 over samples of the images, or {}
    samples: int


def evaluate_detections(
    truth: Truth, found: Detections, *, limit: int, threshold: float | None = None, samples: int = 0
) -> Evaluation:
    """Compute all measurements of an ``Evaluation``.

    Args:
        limit: number of detections for each image that count, best first.
        threshold: lowest score that is shown and counted as a mistake; None takes the threshold with the best F1.
        samples: number of bootstrap samples for the intervals of AP, in sets of FEWEST to MOST images; 0 for none.
    """
    scores = score(truth, found, limit=limit)
    point, class_points = best_points(truth, found, scores)
    if threshold is None:
        threshold = point.threshold if point else FALLBACK_THRESHOLD
    return Evaluation(
        truth=truth,
        found=found,
        scores=scores,
        errors=break_down(truth, found.best(limit)),
        calibration=calibration(truth, found, scores),
        point=point,
        class_points=class_points,
        threshold=threshold,
        confusion=confusion_matrix(truth, found.best(limit), threshold),
        unmatched=unmatched_detections(truth, found.best(limit), threshold),
        mistakes=mistakes_per_image(truth, found, scores, threshold),
        intervals=ap_intervals(truth, found, scores, samples) if FEWEST <= len(truth.image_ids) <= MOST else {},
        samples=samples,
    )


def class_rows(evaluation: Evaluation) -> list[dict]:
    """Make a row for each class, for the page and the CSV: AP in percent, the rest in [0, 1]; None if unknown."""
    truth, scores = evaluation.truth, evaluation.scores
    counts, predicted = truth.class_counts, np.bincount(evaluation.found.classes, minlength=len(truth.class_ids))
    rows = []
    for k, name in enumerate(truth.class_names):
        point = evaluation.class_points[k]
        rows.append(
            {
                "class": name,
                "boxes": int(counts[k]),
                "predictions": int(predicted[k]),
                **{
                    key: known(values[k])
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


def curves(precision: np.ndarray) -> dict[str, np.ndarray]:
    """Return the precision of one class at 101 recalls, for IoU 0.5, 0.75 and the mean, from (T, R)."""
    return {"IoU 0.5": precision[AT_50], "IoU 0.75": precision[AT_75], "mean": precision.mean(axis=0)}


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and the CSV files into ``folder``, which must exist, and return the paths."""
    truth, calibration = evaluation.truth, evaluation.calibration
    head = {
        "ground_truth": truth.source,
        "num_images": len(truth.image_ids),
        "num_boxes": int(truth.class_counts.sum()),
        "num_detections": len(evaluation.found),
        "scored_by": evaluation.scores.package,
        "score_threshold": evaluation.threshold,
        "intervals_95": {name: list(bounds) for name, bounds in evaluation.intervals.items()},
        "bootstrap_samples": evaluation.samples,
        "best_point": evaluation.point and asdict(evaluation.point),
        "calibration_error": {
            key: getattr(calibration, key) for key in ("ece", "d_ece", "d_ece_count", "count", "note")
        },
    }
    pr_curves = []  # lists for each class; the CSV file has a row for each point
    for name, precision in zip(truth.class_names, np.moveaxis(evaluation.scores.precision, 2, 0), strict=True):
        lists = {
            key: None if np.isnan(curve).any() else np.round(curve, 6).tolist()
            for key, curve in curves(precision).items()
        }
        pr_curves.append({"class": name, "recall": RECALLS.tolist(), **lists})
    return write_tables(folder, "evaluation", head, _tables(evaluation), pr_curves=pr_curves)


def write_tables(
    folder: Path, stem: str, head: dict, tables: dict[str, tuple[list[str], list[list]]], **replacements: list
) -> list[Path]:
    """Write a CSV file for each table, and ``stem``.json with ``head`` and all tables; return the paths.

    Args:
        tables: name -> columns and rows.
        replacements: name of a table -> its content in the JSON file, in place of the rows.
    """
    content = {name: [dict(zip(columns, row, strict=True)) for row in rows] for name, (columns, rows) in tables.items()}
    write_json(folder / f"{stem}.json", {**head, **content, **replacements})
    for name, (columns, rows) in tables.items():
        write_csv(folder / f"{name}.csv", columns, rows)
    return [folder / f"{stem}.json", *(folder / f"{name}.csv" for name in tables)]


def _tables(evaluation: Evaluation) -> dict[str, tuple[list[str], list[list]]]:
    """Build the tables: name -> columns and rows."""
    truth, errors, mistakes = evaluation.truth, evaluation.errors, evaluation.mistakes
    classes = class_rows(evaluation)
    bins = [
        [kind, b.name, b.low, b.high, b.boxes, b.ap, b.ap50]
        for kind, group in (("size", evaluation.scores.sizes), ("aspect", evaluation.scores.aspects))
        for b in group
    ]
    # The last row of the matrix by kind.
    matrix = np.vstack([evaluation.confusion[:-1], np.pad(evaluation.unmatched, ((0, 0), (0, 1)))])
    names = [*truth.class_names, *(f"({kind})" for kind in UNMATCHED)]
    predicted = [*truth.class_names, "(background)"]
    confused = [[names[i], predicted[j], int(matrix[i, j])] for i, j in np.argwhere(matrix).tolist()]
    per_image = [
        [truth.image_ids[i], truth.file_names[i], int(mistakes.missed[i]), int(mistakes.wrong[i]),
         float(mistakes.wrong_scores[i])]
        for i in range(len(truth.image_ids))
    ]  # fmt: skip
    points = [
        [name, float(recall), *(float(curve[r]) for curve in curves(precision).values())]
        for name, precision in zip(truth.class_names, np.moveaxis(evaluation.scores.precision, 2, 0), strict=True)
        if not np.isnan(precision).any()
        for r, recall in enumerate(RECALLS)
    ]
    bin_keys = ["low", "high", "count", "score", "right"]
    return {
        "ap": (["metric", "percent"], [list(item) for item in evaluation.scores.summary.items()]),
        "classes": (list(classes[0]), [list(row.values()) for row in classes]),
        "size_and_aspect": (["kind", "range", "low", "high", "boxes", "AP", "AP50"], bins),
        "errors": (["error", "count", "AP50_lost"], errors.rows),
        "confusion": (["truth", "predicted", "count"], confused),
        "calibration": (bin_keys, [[b[key] for key in bin_keys] for b in evaluation.calibration.bins]),
        "images": (["image_id", "file_name", "missed", "wrong", "sum_of_wrong_scores"], per_image),
        "pr_curves": (["class", "recall", "IoU_0.5", "IoU_0.75", "mean"], points),
    }
