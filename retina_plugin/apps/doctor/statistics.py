"""Statistics of a data set: classes, box sizes after the resize, aspect ratios, image sizes."""

from collections import Counter

import numpy as np
from detectron2.config import CfgNode

from ...data.dataset_content import DatasetContent
from ...data.resized import resize_scales

__all__ = ["describe_set"]

# Box sides in pixels, one octave a bin, as for the pyramid levels (paper Sec. 4: 32 to 512 px on P3 to P7).
_SIDES = (0, 4, 8, 16, 32, 64, 128, 256, 512, np.inf)
# Height / width; the paper's anchors have 1/2, 1 and 2.
_RATIOS = (0, 0.2, 0.33, 0.5, 0.71, 1.41, 2, 3, 5, np.inf)
_PER_IMAGE = (0, 1, 2, 5, 10, 20, 50, 100, np.inf)


def describe_set(cfg: CfgNode, content: DatasetContent, *, for_training: bool) -> dict:
    """Count the boxes and images of a set by class and in bins; a bin "8-16" holds 8 <= value < 16."""
    images = len(content.image_ids)
    has_area = (content.boxes[:, 2:] > 0).all(axis=1)  # boxes without area are reported as findings
    boxes = content.boxes[has_area]
    names = content.class_names or [str(i) for i in range(max(content.class_counts, default=-1) + 1)]
    scales = resize_scales(cfg, content.sizes, max if for_training else None)[content.box_images[has_area]]
    sides = np.sqrt((boxes[:, 2:] * scales[:, None]).prod(axis=1))
    ratios = boxes[:, 3] / boxes[:, 2]
    sizes = Counter(f"{w:g}x{h:g}" for w, h in content.sizes)
    return {
        "source": content.source,
        "images": images,
        "images_with_boxes": content.num_annotated,
        "boxes": len(content.boxes),
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
