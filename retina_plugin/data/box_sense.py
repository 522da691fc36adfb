"""Finds boxes that can be trained on but are probably mistakes: tiny after the resize, or annotated twice."""

from collections.abc import Iterator

import numpy as np
from detectron2.config import CfgNode

from ..findings import NOTE, WARNING, Finding, finding
from .dataset_content import DatasetContent
from .resized import resize_scales

__all__ = ["box_places", "find_box_doubts"]

# Half of a cell of P3, the paper's finest level (Sec. 4): under it, a box and its neighbour have the same features.
_TINY = 4.0
# From this share on tiny boxes are worth a warning: COCO has 0.1 % of them at its usual size and trains well.
_TINY_SHARE = 0.01


def find_box_doubts(cfg: CfgNode, content: DatasetContent, *, for_training: bool) -> Iterator[Finding]:
    """Tiny boxes of a training set, and boxes that are in a set twice."""
    if not len(content.boxes):
        return
    if for_training:
        yield from check_tiny_boxes(cfg, content)
    yield from check_repeated_boxes(content)


def box_places(content: DatasetContent, rows: np.ndarray, values: list | None = None) -> list[dict]:
    """The places of a finding for boxes ``rows`` of ``content``: file, ids, and the box or a value of your own."""
    places = []
    for k, row in enumerate(rows):
        image = content.box_images[row]
        # Text for NaN and infinity, which JSON has no numbers for.
        box = [round(float(n), 2) if np.isfinite(n) else str(n) for n in content.boxes[row]]
        place = content.place(image)
        if content.annotation_ids[row] != "none":  # as where a loader gives no ids
            place["annotation_id"] = content.annotation_ids[row]
        places.append({**place, "bbox": box, **({} if values is None else {"value": values[k]})})
    return places


def check_tiny_boxes(cfg: CfgNode, content: DatasetContent) -> Iterator[Finding]:
    scales = resize_scales(cfg, content.sizes, max)[content.box_images]
    side = content.boxes[:, 2:].min(axis=1) * scales
    rows = np.flatnonzero((side > 0) & (side < _TINY))
    if len(rows):
        share = len(rows) / len(content.boxes)
        yield finding(
            "box-tiny",
            content.name,
            f"{content.name}: {len(rows)} of {len(content.boxes)} boxes ({100 * share:.1f} %) have a side under "
            f"{_TINY:g} px after the resize to INPUT.MIN_SIZE_TRAIN {max(cfg.INPUT.MIN_SIZE_TRAIN)}",
            severity=WARNING if share >= _TINY_SHARE else NOTE,
            places=box_places(content, rows, [f"{side[row]:.1f} px" for row in rows]),
        )


def check_repeated_boxes(content: DatasetContent) -> Iterator[Finding]:
    """Boxes whose image and corners another box has too; the first of each is not counted."""
    keys = np.concatenate([content.box_images[:, None], content.boxes, content.box_classes[:, None]], axis=1)
    order = np.lexsort(keys.T)  # by class, then box, then image: stable, so that the earlier record comes first
    same_box = order[np.lexsort(keys[order][:, :5].T)]
    equal = (keys[same_box][1:, :5] == keys[same_box][:-1, :5]).all(axis=1)
    classes = content.box_classes[same_box]
    same_class = classes[1:] == classes[:-1]
    for check, mask, text in (
        ("box-twice", equal & same_class, "repeat a box of the same image and class"),
        ("box-two-classes", equal & ~same_class, "have the place of a box of another class"),
    ):
        rows = np.sort(same_box[1:][mask])
        if len(rows):
            what = f"{content.name}: {len(rows)} of {len(content.boxes)} boxes {text}"
            yield finding(check, content.name, what, places=box_places(content, rows))
