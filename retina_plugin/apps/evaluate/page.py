"""The page of ``retina evaluate``: everything measured on one detector, in one file that opens from disk."""

from collections.abc import Iterable

import numpy as np

from ...errors import count
from ...evaluation.error_types import BACKGROUND_IOU, ERRORS
from ...evaluation.evaluate import FEWEST, Evaluation, class_rows
from ...evaluation.mistakes import CONFUSION_IOU, UNMATCHED
from ..report.pages import Table, render
from ..report.plots import Panel
from .pictures import draw_image
from .plots import bin_plot, error_plot, pr_plot, reliability_plot

__all__ = ["evaluation_page", "too_few"]

# Keep a page of 1,000 classes below 10 MB; the CSV files have everything.
MAX_PICTURES = 12
MAX_CURVES = 24
MAX_MATRIX = 20


def too_few(num_images: int) -> str:
    """Put it into a sentence that these images are too few for an interval; "" if they are not."""
    verb = "is" if num_images == 1 else "are"
    sentence = f"{count(num_images, 'image')} {verb} too few to say how far AP would move with other images."
    return sentence if num_images < FEWEST else ""


def evaluation_page(evaluation: Evaluation, *, title: str, image_root: str | None, pictures: int = MAX_PICTURES) -> str:
    """Make the HTML page.

    Args:
        image_root: folder of the images; None draws none.
        pictures: number of images with mistakes to draw, at most.
    """
    truth, mistakes, scores = evaluation.truth, evaluation.mistakes, evaluation.scores
    errors, calibration = evaluation.errors, evaluation.calibration
    worst = mistakes.worst(pictures)
    panels, captions = _curves(evaluation)
    classes = class_rows(evaluation)
    names = {"class": "Class", "boxes": "Boxes", "predictions": "Detections", "threshold": "Best threshold"}
    columns = [names.get(key, key[0].upper() + key[1:]) for key in classes[0]]
    digits = (0, 0, 1, 1, 1, 3, 3, 3, 3)
    meanings = [*ERRORS.values(), "if no detection were wrong", "if no box were missed"]
    error_rows = [[*row, meaning] for row, meaning in zip(errors.rows, meanings, strict=True)]
    shapes = [[b.name, b.boxes, b.ap, b.ap50] for b in (*scores.sizes, *scores.aspects) if b.boxes]
    bins = [
        [f"{b['low']:.1f} to {b['high']:.1f}", b["count"], b["score"], b["right"],
         None if b["score"] is None else b["right"] - b["score"]]
        for b in calibration.bins
    ]  # fmt: skip
    bin_columns = ["Score", "Detections", "Mean score", "Share correct", "Difference"]
    return render(
        "evaluate/evaluation.html.j2",
        title=title,
        evaluation=evaluation,
        truth=truth,
        num_boxes=int(truth.class_counts.sum()),
        num_crowds=int(truth.regions.sum()),
        num_difficult=int((truth.crowd & ~truth.regions).sum()),
        classes=Table("Classes", columns, [list(row.values()) for row in classes], digits=digits, sortable=True),
        errors=Table("Errors", ["Error", "Number", "AP50 lost", "Meaning"], error_rows, digits=(0, 2), text=(0, 3)),
        error_panel=error_plot(errors),
        confusion=_confusion(evaluation),
        num_unmatched=int(evaluation.unmatched.sum()),
        too_few=too_few(len(truth.image_ids)),
        confusion_iou=CONFUSION_IOU,
        background_iou=BACKGROUND_IOU,
        curves=panels,
        captions=captions,
        shapes=Table("AP by size and shape", ["Range", "Boxes", "AP", "AP50"], shapes),
        shape_panels=[
            bin_plot(scores.sizes, "AP by size", "sizes"),
            bin_plot(scores.aspects, "AP by shape", "aspects"),
        ],
        bins=Table("Calibration", bin_columns, bins, digits=(0, 3, 3, 3)),
        reliability=None if calibration.note else reliability_plot(calibration),
        num_with_mistakes=int((mistakes.total > 0).sum()),
        drawn=None if image_root is None else list(_draw(evaluation, worst, image_root)),
        num_wanted=len(worst),
    )


def _confusion(evaluation: Evaluation) -> dict:
    """The part of the matrix that the page shows: names of columns and rows, rows of (count, share), pairs left out.

    The last rows are the detections without a box of their own, by kind; the last column has the missed boxes.
    """
    matrix, names = evaluation.confusion, evaluation.truth.class_names
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    chosen = sorted(np.argsort(-mistakes[:-1], kind="stable")[:MAX_MATRIX].tolist())
    shown = np.vstack(
        [matrix[np.ix_(chosen, [*chosen, len(names)])], np.pad(evaluation.unmatched[:, chosen], ((0, 0), (0, 1)))]
    )
    shares = shown / np.maximum(shown.sum(axis=1, keepdims=True), 1)
    return {
        "columns": [*(names[k] for k in chosen), "missed"],
        "row_names": [*(names[k] for k in chosen), *UNMATCHED],
        "rows": [list(zip(*row, strict=True)) for row in zip(shown.tolist(), shares.tolist(), strict=True)],
        "num_shown": len(chosen),
        "left_out": int(matrix.sum() - shown.sum()),
    }


def _curves(evaluation: Evaluation) -> tuple[list[Panel], dict[str, str]]:
    """The mean over classes first, then the classes with the most boxes; captions by the name of the plot."""
    truth, precision = evaluation.truth, evaluation.scores.precision
    present = np.flatnonzero(truth.class_counts)
    if not len(present):
        return [], {}
    panels = [pr_plot(precision[:, :, present].mean(axis=2), "pr-all")]
    captions = {"pr-all": f"mean of {count(len(present), 'class')}"}
    largest = present[np.argsort(-truth.class_counts[present], kind="stable")][:MAX_CURVES]
    for k in sorted(largest.tolist()) if len(present) > 1 else []:
        panels.append(pr_plot(precision[:, :, k], f"pr-{k}"))
        captions[f"pr-{k}"] = f"{truth.class_names[k]} ({count(truth.class_counts[k], 'box')})"
    return panels, captions


def _draw(evaluation: Evaluation, images: Iterable[int], image_root: str):
    """Yield heading and pictures of each image that can be read."""
    truth, mistakes = evaluation.truth, evaluation.mistakes
    for i in images:
        pair = draw_image(truth, evaluation.found, i, image_root, threshold=evaluation.threshold)
        if pair:
            wrong = count(int(mistakes.wrong[i]), "wrong detection")
            heading = f"{truth.file_names[i]}: {mistakes.missed[i]} missed, {wrong}"
            yield heading, list(zip(("truth", "predictions"), pair, strict=True))
