"""Compare two detectors on the same images: differences with intervals, and images where one does better."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bootstrap import draw_images, interval, resampled_ap
from .coco_scores import known, mean_of_known
from .error_types import ERRORS
from .evaluate import FEWEST, Evaluation, write_tables

__all__ = ["Comparison", "Difference", "compare", "write_comparison"]


@dataclass(frozen=True)
class Difference:
    """A metric of A and B in percent, and the 95 % interval of B - A over resampled images; None if unknown.

    There is no interval of fewer than FEWEST images.
    """

    name: str
    boxes: int
    first: float | None
    second: float | None
    interval: tuple[float, float] | None

    @property
    def value(self) -> float | None:
        return None if self.first is None or self.second is None else self.second - self.first

    @property
    def beyond_chance(self) -> bool:
        """True if the interval excludes 0."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Comparison:
    """Two evaluations with the same ground truth, A (first) and B (second)."""

    first: Evaluation
    second: Evaluation
    overall: list[Difference]  # AP and AP50
    classes: list[Difference]  # AP of each class
    fewer_mistakes: np.ndarray  # (N,) mistakes of A minus those of B, each at its own threshold; above 0: B is better
    samples: int
    seed: int

    def wins(self, side: int, number: int) -> list[int]:
        """Find the images where A (side 0) or B (1) makes fewer mistakes than the other, largest difference first."""
        gain = self.fewer_mistakes if side else -self.fewer_mistakes
        order = np.argsort(-gain, kind="stable")
        return [i for i in order[:number].tolist() if gain[i] > 0]


def compare(first: Evaluation, second: Evaluation, *, samples: int, seed: int) -> Comparison:
    """Compare two evaluations of the same ground truth, on the same ``samples`` resamples of its images."""
    truth = first.truth
    draws = draw_images(len(truth.image_ids), samples, seed)
    ap, ap50 = zip(*(resampled_ap(truth, side.found, side.scores, draws) for side in (first, second)), strict=True)
    gains = ap[1] - ap[0]
    bounds = interval if len(truth.image_ids) >= FEWEST else lambda values: None
    boxes = int(truth.class_counts.sum())
    overall = [
        Difference(name, boxes, first.scores.summary[name], second.scores.summary[name],
                   bounds(mean_of_known(values[1], 1) - mean_of_known(values[0], 1)))
        for name, values in (("AP", ap), ("AP50", ap50))
    ]  # fmt: skip
    classes = [
        Difference(name, int(truth.class_counts[k]), *(known(side.scores.class_ap[k]) for side in (first, second)),
                   bounds(gains[:, k]))
        for k, name in enumerate(truth.class_names)
    ]  # fmt: skip
    fewer = first.mistakes.total - second.mistakes.total
    return Comparison(first, second, overall, classes, fewer, samples, seed)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.json`` and CSV files into ``folder``, which must exist, and return the paths."""
    truth = comparison.first.truth
    keys = ["name", "boxes", "A", "B", "difference", "low", "high"]
    rows = [
        [d.name, d.boxes, d.first, d.second, d.value, *(d.interval or (None, None))]
        for d in (*comparison.overall, *comparison.classes)
    ]
    image_keys = ["image_id", "file_name", "mistakes_A", "mistakes_B"]
    totals = [side.mistakes.total for side in (comparison.first, comparison.second)]
    images = [
        [truth.image_ids[i], truth.file_names[i], int(totals[0][i]), int(totals[1][i])]
        for i in range(len(truth.image_ids))
    ]
    error_keys = ["error", "count_A", "count_B", "AP50_lost_A", "AP50_lost_B"]
    both = (comparison.first.errors, comparison.second.errors)
    errors = [[name, *(e.counts[name] for e in both), *(e.lost[name] for e in both)] for name in ERRORS]
    tables = {
        "differences": (keys, rows), "image_mistakes": (image_keys, images), "error_differences": (error_keys, errors)
    }  # fmt: skip
    head = {
        "ground_truth": truth.source,
        "samples": comparison.samples,
        "seed": comparison.seed,
        "threshold_A": comparison.first.threshold,
        "threshold_B": comparison.second.threshold,
    }
    return write_tables(folder, "comparison", head, tables)
