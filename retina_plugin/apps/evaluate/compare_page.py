"""The page of ``retina compare``: differences of two detectors, and the images where one does better."""

from collections.abc import Sequence

from ...evaluation.comparison import Comparison, Difference
from ..report.pages import Table, number, render
from .page import too_few
from .pictures import draw_image

__all__ = ["comparison_page", "verdict"]


def comparison_page(
    comparison: Comparison,
    *,
    title: str,
    sources: tuple[str, str],
    image_root: str | None,
    pictures: int,
    settings: Sequence[str] = (),
) -> str:
    """Make the HTML page.

    Args:
        sources: where the detections of A and B come from.
        image_root: folder of the images; None draws none.
        pictures: number of images that A, and that B, wins to draw, at most.
        settings: test settings in which A and B differ, one sentence each.
    """
    gain, wins = comparison.fewer_mistakes, {}
    for letter, other, side, sign in (("A", "B", 0, -1), ("B", "A", 1, 1)):
        chosen = comparison.wins(side, pictures)
        drawn = None if image_root is None else [_draw(comparison, i, image_root) for i in chosen]
        wins[letter] = {
            "other": other,
            "total": int((gain * sign > 0).sum()),
            "unread": (drawn or []).count(None),
            "drawn": drawn and [entry for entry in drawn if entry],
        }
    intervals = {d.name: "{:+.1f} to {:+.1f}".format(*d.interval) for d in comparison.overall if d.interval}
    overall = []
    for name, first in comparison.first.scores.summary.items():
        second = comparison.second.scores.summary[name]
        value = None if first is None or second is None else f"{second - first:+.1f}"
        overall.append([name, first, second, value, intervals.get(name)])
    classes = [
        [d.name, d.boxes, d.first, d.second, d.value, *(d.interval or (None, None)),
         None if d.interval is None else "beyond chance" if d.beyond_chance else "within chance"]
        for d in comparison.classes
    ]  # fmt: skip
    sides = zip(comparison.first.errors.rows, comparison.second.errors.rows, strict=True)
    errors = [[a[0], a[1], b[1], a[2], b[2]] for a, b in sides]
    error_columns = ["Error", "Number A", "Number B", "AP50 lost A", "AP50 lost B"]
    class_columns = ["Class", "Boxes", "A", "B", "B - A", "Low", "High", "Difference"]
    return render(
        "evaluate/comparison.html.j2",
        title=title,
        comparison=comparison,
        truth=comparison.first.truth,
        num_boxes=int(comparison.first.truth.class_counts.sum()),
        sources=list(zip("AB", sources, strict=True)),
        settings=settings,
        too_few=too_few(len(comparison.first.truth.image_ids)),
        verdict=verdict(comparison.overall[0], len(comparison.first.truth.image_ids)),
        num_equal=int((gain == 0).sum()),
        overall=Table("AP of both", ["Metric", "A", "B", "B - A", "95 % interval"], overall),
        classes=Table("AP by class", class_columns, classes, text=(0, 7), sortable=True),
        num_tested=sum(d.interval is not None for d in comparison.classes),
        errors=Table("Errors of both", error_columns, errors, digits=(0, 0, 2, 2)),
        wins=wins,
    )


def verdict(difference: Difference, num_images: int) -> str:
    """Put a difference on ``num_images`` images into a sentence."""
    if difference.value is None:
        return f"{difference.name} cannot be compared: there is no annotated box."
    first, second = number(difference.first), number(difference.second)
    values = f"{difference.name} {first} (A) and {second} (B): a difference of {difference.value:+.1f}"
    if difference.interval is None:
        return f"{values}. {too_few(num_images)}".rstrip()
    low, high = difference.interval
    meaning = "beyond" if difference.beyond_chance else "within"
    return f"{values}, 95 % interval {low:+.1f} to {high:+.1f}, {meaning} what the choice of images explains."


def _draw(comparison: Comparison, i: int, image_root: str) -> tuple[str, list[tuple[str, str]]] | None:
    """Heading and pictures of image ``i``; None if it cannot be read."""
    truth, pictures, counts = comparison.first.truth, [], []
    for letter, side in zip("AB", (comparison.first, comparison.second), strict=True):
        pair = draw_image(truth, side.found, i, image_root, threshold=side.threshold)
        if pair is None:
            return None
        pictures += [(f"truth; dashed: missed by {letter}", pair[0]), (f"{letter}; dashed: wrong", pair[1])]
        counts.append(f"{letter} {side.mistakes.missed[i]} missed, {side.mistakes.wrong[i]} wrong")
    return f"{truth.file_names[i]}: {'; '.join(counts)}", pictures
