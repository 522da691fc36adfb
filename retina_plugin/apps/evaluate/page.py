"""The page of ``retina evaluate``: every figure of a judgement, in one file that opens from disk."""

from collections.abc import Sequence

import numpy as np

from ...evaluation.error_types import ERRORS
from ...evaluation.judge import Judgement, class_rows
from ...evaluation.mistakes import CONFUSION_IOU
from .page_parts import count, document, figure_grid, html_table, number, page_text, section
from .page_plots import bin_plot, error_plot, pr_plot, reliability_plot
from .pictures import draw_image, picture_list

__all__ = ["MAX_PICTURES", "evaluation_page"]

# What keeps a page of 1,000 classes below 10 MB; everything is in the CSV files.
MAX_PICTURES = 12
MAX_CURVES = 24
MAX_MATRIX = 20


def evaluation_page(judgement: Judgement, *, title: str, image_root: str | None, pictures: int = MAX_PICTURES) -> str:
    """The HTML of the page.

    Args:
        image_root: folder of the images; None draws none.
        pictures: at most so many images with mistakes are drawn.
    """
    worst = judgement.mistakes.worst(pictures)
    drawn = [] if image_root is None else _drawn(judgement, worst, image_root)
    sections = {
        "scores": ("AP", _scores(judgement)),
        "classes": ("Classes", _classes(judgement)),
        "errors": ("Errors", _errors(judgement)),
        "confusion": ("Confusion", _confusion(judgement)),
        "curves": ("Curves", _curves(judgement)),
        "shapes": ("Size and shape", _shapes(judgement)),
        "calibration": ("Calibration", _calibration(judgement)),
        "images": ("Images", _images(judgement, drawn, image_root is None, len(worst))),
    }
    return document(
        title,
        "Evaluation",
        _lead(judgement),
        {anchor: name for anchor, (name, _) in sections.items()},
        [section(anchor, name, content) for anchor, (name, content) in sections.items()],
        "The same figures are beside this page, in evaluation.json and the CSV files.",
    )


def _lead(judgement: Judgement) -> str:
    truth, point = judgement.truth, judgement.point
    boxes, crowds = int(truth.class_counts.sum()), int(truth.crowd.sum())
    regions = f", {count(crowds, 'crowd region')}" if crowds else ""
    facts = [
        f"{count(len(truth.image_ids), 'image')}, {count(boxes, 'box')} of {int((truth.class_counts > 0).sum())} of "
        f"{count(len(truth.class_ids), 'class')}{regions}, "
        f"{count(len(judgement.found), 'detection')}. Scored by {judgement.scores.package}."
    ]
    if not boxes:
        facts.append("There is no annotated box: AP and everything that needs one is unknown (a dash).")
    if not len(judgement.found):
        facts.append("There is no detection: every box is missed.")
    if point:
        facts.append(
            f"Best F1 of all classes together: {point.f1:.3f} from score {point.threshold:.3f} on, where "
            f"{point.precision:.1%} of the detections are right and {point.recall:.1%} of the boxes found (IoU 0.5)."
        )
    return "".join(f"<p>{page_text(fact)}</p>" for fact in facts)


def _scores(judgement: Judgement) -> str:
    items = "".join(
        f"<div><dt>{page_text(name)}</dt><dd>{number(value)}</dd></div>"
        for name, value in judgement.scores.summary.items()
    )
    return (
        f'<dl class="numbers">{items}</dl><p class="aside">COCO’s numbers in percent. AP: mean over IoU 0.50 to 0.95; '
        "AP50, AP75: at one IoU; s, m, l: objects below 32 x 32 pixels, below 96 x 96, above; AR@n: recall with at "
        "most n detections of an image and class. A dash: no such object.</p>"
    )


def _classes(judgement: Judgement) -> str:
    rows = class_rows(judgement)
    names = {"class": "Class", "boxes": "Boxes", "predictions": "Detections", "threshold": "Best threshold"}
    columns = [names.get(key, key[0].upper() + key[1:]) for key in rows[0]]
    table = html_table(
        "Classes", columns, [list(row.values()) for row in rows], digits=(0, 0, 1, 1, 1, 3, 3, 3, 3), sortable=True
    )
    return (
        f'{table}<p class="aside">Press a heading to sort. Best threshold: the score from which on F1 at IoU 0.5 is '
        "highest, with the precision, recall and F1 there; chosen on these very images, so a little too good.</p>"
    )


def _errors(judgement: Judgement) -> str:
    errors = judgement.errors
    rows = [[name, errors.counts[name], errors.lost[name], ERRORS[name]] for name in ERRORS]
    rows += [
        ["all false positives", None, errors.false_positives, "if no detection were wrong"],
        ["all misses", None, errors.false_negatives, "if no box were missed"],
    ]
    table = html_table("Errors", ["Error", "Number", "AP50 lost", "What it is"], rows, digits=(0, 2))
    return (
        figure_grid([(error_plot(errors), "")]) + table + f'<p class="aside">TIDE (Bolya et al. 2020): each false '
        "detection and each missed box has one cause, and a cause costs the points of AP50 "
        f"(now {number(errors.ap50)}) that mending it alone would bring. They need not add up. A class that no "
        "detection finds stays at 0 while a box of it is left to find, and leaves the mean once none is.</p>"
    )


def _confusion(judgement: Judgement) -> str:
    names = judgement.truth.class_names
    K = len(names)
    chosen = _most_confused(judgement.confusion, MAX_MATRIX)
    index = [*chosen, K]
    part = judgement.confusion[np.ix_(index, index)]
    left_out = int(judgement.confusion.sum() - part.sum())
    titles = [*(names[k] for k in chosen), "background"]
    head = "".join(f'<th scope="col" title="{page_text(name)}">{page_text(name)}</th>' for name in titles)
    body = []
    for i, name in enumerate(titles):
        total = max(part[i].sum(), 1)
        cells = "".join(
            f'<td style="--share:{count / total:.3f}"{" class=same" if i == j < len(chosen) else ""}>'
            f"{count if count else ''}</td>"
            for j, count in enumerate(part[i].tolist())
        )
        body.append(f'<tr><th scope="row">{page_text(name)}</th>{cells}</tr>')
    more = (
        f" The {len(chosen)} of {K} classes with the most mistakes are shown; {left_out} pairs of others are in "
        "confusion.csv."
        if len(chosen) < K
        else ""
    )
    return (
        f"<p>Rows: what is there. Columns: what was predicted with a score of at least {judgement.threshold:.3f}. "
        "Last column: boxes that were missed. Last row: detections where nothing is.</p>"
        f'<div class="scroll matrix" tabindex="0" role="region" aria-label="Confusion matrix"><table><thead><tr>'
        f'<th scope="col">truth \\ predicted</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        f'<p class="aside">A detection belongs to the free box that it overlaps most, from IoU {CONFUSION_IOU:g} on, '
        f"whatever the class. The shade is the share of the row.{more}</p>"
    )


def _most_confused(matrix: np.ndarray, number_: int) -> list[int]:
    """Classes with the most mistakes, in their own order."""
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    return sorted(np.argsort(-mistakes[:-1], kind="stable")[:number_].tolist())


def _curves(judgement: Judgement) -> str:
    truth, precision = judgement.truth, judgement.scores.precision
    present = np.flatnonzero(truth.class_counts)
    if not len(present):
        return "<p>No annotated box, no curve.</p>"
    largest = sorted(present[np.argsort(-truth.class_counts[present], kind="stable")][:MAX_CURVES].tolist())
    figures = [(pr_plot(precision[:, :, present].mean(axis=2), "pr-all"), f"mean of {count(len(present), 'class')}")]
    if len(present) > 1:
        figures += [
            (pr_plot(precision[:, :, k], f"pr-{k}"), f"{truth.class_names[k]} ({count(truth.class_counts[k], 'box')})")
            for k in largest
        ]
    more = f" The {len(largest)} classes with the most boxes; all are in pr_curves.csv."
    return (
        figure_grid(figures) + '<p class="aside">Precision over recall at COCO’s 101 recalls, at IoU 0.5, at 0.75 and '
        f"in the mean of 0.50 to 0.95.{more if len(largest) < len(present) else ''}</p>"
    )


def _shapes(judgement: Judgement) -> str:
    scores = judgement.scores
    plots = [
        (bin_plot(scores.sizes, "AP by size", "sizes"), "side of a square of the same area, pixels"),
        (bin_plot(scores.aspects, "AP by shape", "aspects"), "width : height"),
    ]
    rows = [[b.name, b.boxes, b.ap, b.ap50] for b in (*scores.sizes, *scores.aspects) if b.boxes]
    if not rows:
        return "<p>No annotated box.</p>"
    return (
        figure_grid(plots)
        + html_table("AP by size and shape", ["Range", "Boxes", "AP", "AP50"], rows)
        + '<p class="aside">As COCO does it for small, medium and large: boxes of other ranges are left out, and so '
        "are the detections that find them or that are of another range and wrong.</p>"
    )


def _calibration(judgement: Judgement) -> str:
    calibration = judgement.calibration
    if calibration.note:
        return f"<p>No calibration: {page_text(calibration.note)}.</p>"
    rows = [
        [f"{b['low']:.1f} to {b['high']:.1f}", b["count"], b["score"], b["right"],
         None if b["score"] is None else b["right"] - b["score"]]
        for b in calibration.bins
    ]  # fmt: skip
    table = html_table(
        "Calibration", ["Score", "Detections", "Mean score", "Share right", "Difference"], rows, digits=(0, 3, 3, 3)
    )
    return (
        f"<p>Expected calibration error (ECE) <strong>{number(calibration.ece, 3)}</strong> over "
        f"{calibration.count} detections; detection ECE (D-ECE) <strong>{number(calibration.d_ece, 3)}</strong> over "
        f"the {calibration.d_ece_count} of them in bins with at least 8.</p>"
        + figure_grid([(reliability_plot(calibration), "")])
        + table
        + '<p class="aside">Right: matched at IoU 0.5. ECE: mean of |share right - mean score| over ten bins of the '
        "score, by their counts. D-ECE (Kueppers et al. 2020): the same over bins of score, centre, width and height, "
        "five each.</p>"
    )


def _drawn(judgement: Judgement, worst: Sequence[int], image_root: str) -> list[tuple[str, list[tuple[str, bytes]]]]:
    drawn, mistakes = [], judgement.mistakes
    for i in worst:
        files = draw_image(judgement.truth, judgement.found, i, image_root, threshold=judgement.threshold)
        if files:
            wrong = count(int(mistakes.wrong[i]), "wrong detection")
            caption = f"{judgement.truth.file_names[i]}: {mistakes.missed[i]} missed, {wrong}"
            drawn.append((caption, [("truth", files[0]), ("predictions", files[1])]))
    return drawn


def _images(judgement: Judgement, drawn: list, no_folder: bool, wanted: int) -> str:
    total = int((judgement.mistakes.total > 0).sum())
    rule = (
        f"<p>{total} of {count(len(judgement.truth.image_ids), 'image')} with a mistake from score "
        f"{judgement.threshold:.3f} on: a box without a right detection or a detection that is not right (IoU 0.5, "
        "same class). Most mistakes first; of equally many, the image whose wrong detections are the surest. All "
        "images are in images.csv.</p>"
    )
    if no_folder:
        return rule + "<p>No pictures: give the folder of the images with --images.</p>"
    unread = f"<p>{count(wanted - len(drawn), 'image')} could not be read.</p>" if len(drawn) < wanted else ""
    legend = "<p>Dashed: a box that was missed, or a detection that is wrong.</p>" if drawn else ""
    return rule + unread + legend + picture_list(drawn)
