"""The counts of ``describe_set`` as text. Needs no package, so that a report is printed where Detectron2 is broken."""

__all__ = ["draw_bars"]

_BAR = 40  # characters of the longest bar
_CLASSES_SHOWN, _SIZES_SHOWN = 20, 5


def draw_bars(described: dict) -> str:
    """The counts of ``describe_set`` as text, a bar a class and bin."""
    classes = sorted(described["boxes_by_class"].items(), key=lambda item: -item[1])
    tables = [
        ("boxes by class", classes[:_CLASSES_SHOWN], len(classes) - _CLASSES_SHOWN),
        ("side of a box (sqrt of its area), px after the resize", _inner(described["box_side_px_after_resize"]), 0),
        ("height / width of a box", _inner(described["box_height_by_width"]), 0),
        ("boxes in an image", _inner(described["boxes_per_image"]), 0),
        (
            "image sizes",
            list(described["image_sizes"].items())[:_SIZES_SHOWN],
            len(described["image_sizes"]) - _SIZES_SHOWN,
        ),
    ]
    return "\n".join(_draw_table(*table) for table in tables if table[1])


def _inner(bins: dict[str, int]) -> list[tuple[str, int]]:
    """The bins from the first to the last that holds something."""
    items = list(bins.items())
    full = [i for i, (_, count) in enumerate(items) if count]
    return items[full[0] : full[-1] + 1] if full else []


def _draw_table(title: str, rows: list[tuple[str, int]], left_out: int) -> str:
    width = max(len(name) for name, _ in rows)
    most = max(1, max(count for _, count in rows))
    lines = [f"  {title}"]
    for name, count in rows:
        bar = "#" * (max(1, round(_BAR * count / most)) if count else 0)
        lines.append(f"    {name:>{width}} {count:8d} {bar}".rstrip())
    if left_out > 0:
        lines.append(f"    and {left_out} more")
    return "\n".join(lines)
