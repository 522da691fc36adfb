"""The page of ``retina compare``: differences of two detectors, and the images where one beats the other."""

from ...evaluation.comparison import Comparison, Difference
from ...evaluation.error_types import ERRORS
from .page_parts import Cell, count, document, html_table, number, page_text, section
from .pictures import draw_image, picture_list

__all__ = ["comparison_page", "verdict"]


def comparison_page(
    comparison: Comparison, *, title: str, sources: tuple[str, str], image_root: str | None, pictures: int
) -> str:
    """The HTML of the page.

    Args:
        sources: what A and B are; image_root: folder of the images, None draws none.
        pictures: at most so many images of each side's wins are drawn.
    """
    sections = {
        "ap": ("AP", _overall(comparison)),
        "classes": ("Classes", _classes(comparison)),
        "errors": ("Errors", _errors(comparison)),
        "b-wins": ("B wins", _wins(comparison, 1, image_root, pictures)),
        "a-wins": ("A wins", _wins(comparison, 0, image_root, pictures)),
    }
    return document(
        title,
        "Comparison",
        _lead(comparison, sources),
        {anchor: name for anchor, (name, _) in sections.items()},
        [section(anchor, name, content) for anchor, (name, content) in sections.items()],
        "The same figures are beside this page, in comparison.json and the CSV files.",
    )


def verdict(difference: Difference) -> str:
    """The difference in a sentence."""
    if difference.value is None or difference.interval is None:
        return f"{difference.name} cannot be compared: there is no annotated box."
    low, high = difference.interval
    first, second = number(difference.first), number(difference.second)
    meaning = "beyond" if difference.beyond_chance else "within"
    return (
        f"{difference.name} {first} (A) and {second} (B): a difference of {difference.value:+.1f}, 95 % interval "
        f"{low:+.1f} to {high:+.1f}, {meaning} what the choice of images explains."
    )


def _lead(comparison: Comparison, sources: tuple[str, str]) -> str:
    truth = comparison.first.truth
    gain = comparison.fewer_mistakes
    facts = [
        *(f"{letter}: {source}" for letter, source in zip("AB", sources, strict=True)),
        f"{count(len(truth.image_ids), 'image')}, {count(int(truth.class_counts.sum()), 'box')} of "
        f"{count(len(truth.class_ids), 'class')}.",
        verdict(comparison.overall[0]),
        f"A makes fewer mistakes on {count(int((gain < 0).sum()), 'image')}, B on {int((gain > 0).sum())}, and both "
        f"make as many on {int((gain == 0).sum())}.",
    ]
    return "".join(f"<p>{page_text(fact)}</p>" for fact in facts)


def _overall(comparison: Comparison) -> str:
    known = {difference.name: difference for difference in comparison.overall}
    rows = []
    for name, first in comparison.first.scores.summary.items():
        second = comparison.second.scores.summary[name]
        value = None if first is None or second is None else second - first
        rows.append([name, first, second, _signed(value), _interval(known.get(name))])
    return (
        html_table("AP of both", ["Metric", "A", "B", "B - A", "95 % interval"], rows)
        + f'<p class="aside">Interval: percentiles 2.5 and 97.5 of the difference over {comparison.samples} draws of '
        f"as many images with replacement, the same draws for A and B (paired bootstrap, seed {comparison.seed}). It "
        "says what another choice of images could change, not another training.</p>"
    )


def _classes(comparison: Comparison) -> str:
    rows = [
        [d.name, d.boxes, d.first, d.second, d.value, *(d.interval or (None, None)),
         None if d.interval is None else "beyond chance" if d.beyond_chance else "within chance"]
        for d in comparison.classes
    ]  # fmt: skip
    columns = ["Class", "Boxes", "A", "B", "B - A", "Low", "High", "Difference"]
    count = sum(d.interval is not None for d in comparison.classes)
    return (
        html_table("AP by class", columns, rows, sortable=True)
        + '<p class="aside">AP of each class, with the 95 % interval of the difference (low to high). Of '
        f"{count} equal classes {0.05 * count:.1f} would be called beyond chance by chance.</p>"
    )


def _errors(comparison: Comparison) -> str:
    first, second = comparison.first.errors, comparison.second.errors
    rows: list[list[Cell]] = [
        [name, first.counts[name], second.counts[name], first.lost[name], second.lost[name]] for name in ERRORS
    ]
    for name, key in (("all false positives", "false_positives"), ("all misses", "false_negatives")):
        rows.append([name, None, None, getattr(first, key), getattr(second, key)])
    columns = ["Error", "Number A", "Number B", "AP50 lost A", "AP50 lost B"]
    return html_table("Errors of both", columns, rows, digits=(0, 0, 2, 2)) + (
        '<p class="aside">TIDE’s types, as on the page of retina evaluate.</p>'
    )


def _signed(value: float | None) -> str | None:
    return None if value is None else f"{value:+.1f}"


def _interval(difference: Difference | None) -> str | None:
    if difference is None or difference.interval is None:
        return None
    return f"{difference.interval[0]:+.1f} to {difference.interval[1]:+.1f}"


def _wins(comparison: Comparison, side: int, image_root: str | None, pictures: int) -> str:
    letter, other = "AB"[side], "BA"[side]
    gain = comparison.fewer_mistakes if side else -comparison.fewer_mistakes
    total = int((gain > 0).sum())
    thresholds = f"{comparison.first.threshold:.3f} (A) and {comparison.second.threshold:.3f} (B)"
    text = (
        f"<p>On {count(total, 'image')} {letter} makes fewer mistakes than {other}: boxes missed plus wrong "
        f"detections at IoU 0.5, from the score {thresholds} on, where each has its best F1. The "
        "largest difference first; all images are in image_mistakes.csv.</p>"
    )
    chosen = comparison.wins(side, pictures)
    if image_root is None:
        return text + "<p>No pictures: give the folder of the images with --images.</p>"
    drawn = [entry for i in chosen if (entry := _draw(comparison, i, image_root))]
    unread = f"<p>{count(len(chosen) - len(drawn), 'image')} could not be read.</p>" if len(drawn) < len(chosen) else ""
    return text + unread + picture_list(drawn)


def _draw(comparison: Comparison, i: int, image_root: str) -> tuple[str, list[tuple[str, bytes]]] | None:
    truth, files, counts = comparison.first.truth, [], []
    for letter, side in zip("AB", (comparison.first, comparison.second), strict=True):
        pair = draw_image(truth, side.found, i, image_root, threshold=side.threshold)
        if pair is None:
            return None
        files += [(f"truth; dashed: missed by {letter}", pair[0]), (f"{letter}; dashed: wrong", pair[1])]
        counts.append(f"{letter} {side.mistakes.missed[i]} missed, {side.mistakes.wrong[i]} wrong")
    return f"{truth.file_names[i]}: {'; '.join(counts)}", files
