"""What a data set looks like in numbers: classes, sizes of boxes after the resize, aspect ratios, sizes of images."""

from collections import Counter

import numpy as np
from detectron2.config import CfgNode

from ..checks.dataset_content import DatasetContent
from ..checks.resized import resize_scales

__all__ = ["describe_set", "draw_bars"]

# Sides of boxes, pixels: an octave each, as the levels of the pyramid are (paper Sec. 4: 32 to 512 px, P3 to P7).
_SIDES = (0, 4, 8, 16, 32, 64, 128, 256, 512, np.inf)
# Height / width; the paper's anchors have 1/2, 1 and 2.
_RATIOS = (0, 0.2, 0.33, 0.5, 0.71, 1.41, 2, 3, 5, np.inf)
_PER_IMAGE = (0, 1, 2, 5, 10, 20, 50, 100, np.inf)
_BAR = 40  # characters of the longest bar
_CLASSES_SHOWN, _SIZES_SHOWN = 20, 5


def describe_set(cfg: CfgNode, content: DatasetContent, *, for_training: bool) -> dict:
    """Counts of a set by class and in bins; a bin "8-16" holds 8 <= value < 16."""
    boxes, images = content.boxes, len(content.image_ids)
    names = content.class_names or [str(i) for i in range(max(content.class_counts, default=-1) + 1)]
    scales = resize_scales(cfg, content.sizes, max if for_training else None)[content.box_images]
    with np.errstate(invalid="ignore", divide="ignore"):  # boxes without area are findings, not numbers
        sides = np.sqrt((boxes[:, 2:] * scales[:, None]).clip(min=0).prod(axis=1))
        ratios = boxes[:, 3] / boxes[:, 2]
    sizes = Counter(f"{w:g}x{h:g}" for w, h in content.sizes)
    return {
        "source": content.source,
        "images": images,
        "images_with_boxes": content.num_annotated,
        "boxes": len(boxes),
        "boxes_by_class": {name: int(content.class_counts[i]) for i, name in enumerate(names)},
        "box_side_px_after_resize": _bins(sides, _SIDES),
        "box_height_by_width": _bins(ratios, _RATIOS),
        "boxes_per_image": _bins(np.bincount(content.box_images, minlength=images), _PER_IMAGE),
        "image_sizes": dict(sizes.most_common()),
    }


def _bins(values: np.ndarray, edges: tuple[float, ...]) -> dict[str, int]:
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    names = [
        f"{low:g}-{high:g}" if np.isfinite(high) else f">={low:g}" for low, high in zip(edges, edges[1:], strict=False)
    ]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


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
