"""Best overlaps of anchors with ground-truth boxes, without the matrix of all pairs (paper Sec. 4, assignment).

Anchors that follow each other lie near each other, so a run of them (a tile) meets few boxes: only those that reach
into the tile's hull are compared with its anchors. The order of the anchors changes no result; a generator's order, row
by row of a level, makes it fast. Memory is linear in the anchors: boxes are taken ``BOX_CHUNK`` at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AnchorTiles", "BestOverlaps", "best_overlaps"]

TILE = 128  # anchors; measured with 1 to 1,000 boxes at 220,968 anchors: 64 is as fast, 256 is a third slower
# Pairs of an anchor and a box at a time: 2^18 x 4 bytes = 1 MiB a temporary, which stays in a processor's cache (2^16
# and 2^20 are slower). A GPU wants fewer, larger pieces; 2^22 x 4 bytes x 6 temporaries = 100 MB (not measured).
PAIRS_CPU, PAIRS_GPU = 2**18, 2**22
BOX_CHUNK = 1024  # 2 x 8 bytes x 1024 / TILE = 128 bytes an anchor at most for the list of tiles and their boxes


@dataclass(frozen=True)
class BestOverlaps:
    """Overlaps of R anchors with M boxes; of boxes with equal overlap, the first."""

    iou: Tensor  # (R,) best IoU of the anchor with any box, in [0, 1]; 0 without boxes
    box: Tensor  # (R,) long, the box with that IoU; 0 where the anchor overlaps none
    box_iou: Tensor  # (M,) best IoU of the box with any anchor
    best_mask: Tensor  # (R,) bool, the anchor is among the best of a box whose best IoU is > 0 and >= ``min_iou``


class AnchorTiles:
    """Anchors of an image in tiles of ``TILE``, to be matched with the boxes of any number of images."""

    def __init__(self, anchors: Tensor):
        """
        Args:
            anchors: (R, 4) XYXY, absolute pixels; R >= 1.
        """
        self.num_anchors = len(anchors)
        # A copy of the last anchor changes no maximum; its own results are cut off.
        padding = anchors[-1:].expand(-self.num_anchors % TILE, 4)
        columns = torch.cat([anchors, padding]).t().reshape(4, -1, TILE)
        # (5, T, TILE): x0, y0, x1, y1 and the area
        self.columns = torch.cat([columns, _area(columns)[None]])
        self.hulls = torch.cat([columns[:2].amin(dim=2), columns[2:].amax(dim=2)])  # (4, T)


def best_overlaps(tiles: AnchorTiles, boxes: Tensor, *, min_iou: float | None) -> BestOverlaps:
    """Find the box that each anchor overlaps most, and the anchors that overlap a box most.

    Bit for bit the maxima of Detectron2's ``pairwise_iou``, ties included: the same operations in the same order, on
    the pairs that can overlap.

    Args:
        tiles: the R anchors.
        boxes: (M, 4) XYXY, same frame as the anchors; M may be 0. A box without area, or outside, overlaps nothing.
        min_iou: for ``best_mask``, in [0, 1]; None leaves ``best_mask`` False and ``box_iou`` 0, and saves time.
    """
    shape, device = tiles.columns.shape[1:], boxes.device
    found = BestOverlaps(
        iou=boxes.new_zeros(shape),
        box=torch.zeros(shape, dtype=torch.long, device=device),
        box_iou=boxes.new_zeros(len(boxes)),
        best_mask=torch.zeros(shape, dtype=torch.bool, device=device),
    )
    for first in range(0, len(boxes), BOX_CHUNK):
        _match_chunk(tiles, boxes[first : first + BOX_CHUNK], first, found, min_iou)
    iou, box, best_mask = (x.flatten()[: tiles.num_anchors] for x in (found.iou, found.box, found.best_mask))
    return BestOverlaps(iou, box, found.box_iou, best_mask)


def _match_chunk(tiles: AnchorTiles, boxes: Tensor, first: int, found: BestOverlaps, min_iou: float | None) -> None:
    """Update ``found`` in place with boxes ``first``, ``first + 1``, ...; its tensors of anchors are (T, TILE)."""
    columns = torch.cat([boxes.t(), _area(boxes.t())[None]])  # (5, M)
    low, high = tiles.hulls[:2, :, None], tiles.hulls[2:, :, None]
    reach_mask = ((columns[:2, None] < high) & (columns[2:4, None] > low)).all(dim=0)  # (T, M)
    pair_tile, pair_box = reach_mask.nonzero(as_tuple=True)
    pair_iou = boxes.new_zeros(len(pair_tile))
    for group, pairs in _groups(reach_mask.sum(dim=1)):
        candidates = pair_box[pairs]  # (B, C)
        ious = _iou(tiles.columns.index_select(1, group)[:, :, None], columns[:, candidates, None])  # (B, C, TILE)
        value, row = ious.max(dim=1)  # (B, TILE)
        better_mask = value > found.iou[group]  # of equal IoU the earlier box stays
        found.iou[group] = torch.where(better_mask, value, found.iou[group])
        found.box[group] = torch.where(better_mask, candidates.gather(1, row) + first, found.box[group])
        if min_iou is not None:
            pair_iou[pairs] = ious.amax(dim=2)
    if min_iou is not None:
        box_iou = found.box_iou[first : first + BOX_CHUNK].scatter_reduce_(0, pair_box, pair_iou, "amax")
        best = box_iou[pair_box]
        chosen = ((pair_iou == best) & (best > 0) & (best >= min_iou)).nonzero()[:, 0]
        for part in chosen.split(_pairs_at_a_time(boxes.device) // TILE):
            tile = pair_tile[part]
            ious = _iou(tiles.columns.index_select(1, tile), columns[:, pair_box[part], None])  # (P, TILE)
            # A tile may come twice, for two boxes: a sum takes both.
            hits = torch.zeros_like(found.best_mask, dtype=torch.int32)
            found.best_mask.logical_or_(hits.index_add_(0, tile, (ious == best[part, None]).int()) > 0)


def _groups(counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Group tiles that meet a similar number of boxes, up to the number of pairs taken at a time.

    Args:
        counts: (T,) long, boxes of each tile; the pairs are listed tile by tile.

    Yields:
        (B,) long tiles, and (B, C) long pairs of each. A tile with fewer than C pairs repeats its last one, which
        changes neither a maximum nor the first box that reaches it.
    """
    rows = _pairs_at_a_time(counts.device) // TILE
    ends = counts.cumsum(0)
    ordered, order = counts.sort(descending=True)
    sizes = ordered.tolist()  # the only wait for a device besides those for the lists of pairs
    occupied, start = sum(size > 0 for size in sizes), 0
    while start < occupied:
        stop = start + max(1, rows // sizes[start])
        group = order[start : min(stop, occupied)]
        offsets = torch.arange(sizes[start], device=counts.device)
        end = ends[group, None]
        yield group, torch.minimum(end - counts[group, None] + offsets, end - 1)
        start = stop


def _pairs_at_a_time(device: torch.device) -> int:
    return PAIRS_CPU if device.type == "cpu" else PAIRS_GPU


def _iou(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Compute the IoU of ``(5, ...)`` columns, broadcast; 0 without an intersection."""
    width = (torch.minimum(anchors[2], boxes[2]) - torch.maximum(anchors[0], boxes[0])).clamp_(min=0)
    height = (torch.minimum(anchors[3], boxes[3]) - torch.maximum(anchors[1], boxes[1])).clamp_(min=0)
    intersection = width.mul_(height)
    union = (boxes[4] + anchors[4]).sub_(intersection)
    return torch.where(intersection > 0, intersection / union, 0.0)


def _area(columns: Tensor) -> Tensor:
    return (columns[2] - columns[0]) * (columns[3] - columns[1])
