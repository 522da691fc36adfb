"""``labelling``: labels and matched boxes of the anchors of an image, beside Detectron2's matrix of IoU."""

import math
from collections.abc import Iterator

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from retina_plugin.modeling import OctaveAnchorGenerator, SafeMatcher
from retina_plugin.ops.matching import AnchorTiles

from .measurement import Measurement, Settings, compare

__all__ = ["HELP", "measure"]

HELP = "labelling of the anchors, time and peak memory, against the number of boxes and of anchors"

STRIDES = (8, 16, 32, 64, 128)  # P3 to P7 (paper Sec. 4)
THRESHOLDS, LABELS = [0.4, 0.5], [0, -1, 1]  # paper Sec. 4
IMAGE = (1024, 1056)  # pixels: 9 x (128 x 132 + 64 x 66 + 32 x 33 + 16 x 17 + 8 x 9) = 202,680 anchors
BOXES = (1, 8, 10, 100, 1000, 5000)
IMAGES = ((512, 528), (1024, 1056), (2048, 2112))  # 51, 203 and 811 thousand anchors
IMAGES_BOXES = 100
# Pairs; beyond it Detectron2 is left out: 5,000 boxes would take it 5,000 x 202,680 x 4 bytes = 4 GB a matrix, several
# of them and twice that for (M, R, 2).
MATRIX_LIMIT = 2**28
SIDES = (8, 512)  # pixels, log-uniform: the range of COCO's objects


def measure(settings: Settings) -> Iterator[Measurement]:
    """More boxes, then, unless quick, more anchors."""
    if settings.quick:
        yield _measure(settings, IMAGES[0], IMAGES_BOXES, sweep="")
        return
    for boxes in BOXES:
        yield _measure(settings, IMAGE, boxes, sweep="boxes")
    for image in IMAGES:
        yield _measure(settings, image, IMAGES_BOXES, sweep="anchors")


def _measure(settings: Settings, image: tuple[int, int], num_boxes: int, *, sweep: str) -> Measurement:
    anchors = _anchors(image).to(settings.device)
    boxes = _boxes(image, num_boxes).to(settings.device)
    ours = SafeMatcher(THRESHOLDS, LABELS, allow_low_quality_matches=True, low_quality_min_iou=0.0)
    theirs = Matcher(THRESHOLDS, LABELS, allow_low_quality_matches=True)
    work = {
        "retina_plugin": lambda: _ours(ours, anchors, boxes),
        "Detectron2": lambda: theirs(pairwise_iou(Boxes(boxes), Boxes(anchors))),
    }
    equality = {}
    if len(anchors) * num_boxes > MATRIX_LIMIT:
        del work["Detectron2"]
    else:
        (matches, labels), (expected, expected_labels) = (run() for run in work.values())
        equality = {
            "matched boxes that differ": (matches != expected).sum().item(),
            "labels that differ": (labels != expected_labels).sum().item(),
        }
    return compare(
        "labelling", "labels and matched boxes of the anchors", work, ours="retina_plugin", settings=settings,
        memory=True, warmup=1, equality=equality,
        parameters={"boxes": num_boxes, "anchors": len(anchors), "sweep": sweep},
        figures={} if equality else {"Detectron2": "left out, each of its matrices takes 4 GB or more"},
    )  # fmt: skip


def _ours(matcher: SafeMatcher, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    overlaps, labels = matcher.match_boxes(AnchorTiles(anchors), boxes)
    return overlaps.box, labels


def _anchors(image: tuple[int, int]) -> Tensor:
    """The paper's nine anchors a location, (R, 4)."""
    generator = OctaveAnchorGenerator(
        base_size=4.0, scales_per_octave=3, aspect_ratios=[0.5, 1.0, 2.0], strides=list(STRIDES), offset=0.0
    )
    # The generator reads nothing of the maps but their sizes.
    maps = [torch.zeros(1).expand(1, 1, *(math.ceil(side / stride) for side in image)) for stride in STRIDES]
    return Boxes.cat(generator(maps)).tensor


def _boxes(image: tuple[int, int], number: int) -> Tensor:
    """(M, 4) boxes anywhere in the image; each has an area, so that each overlaps some anchor."""
    generator = torch.Generator().manual_seed(0)
    log_low, log_high = (math.log(side) for side in SIDES)
    sides = (log_low + (log_high - log_low) * torch.rand(number, 2, generator=generator)).exp()
    limit = torch.tensor([image[1], image[0]])
    centers = torch.rand(number, 2, generator=generator) * limit
    low, high = (centers - sides / 2).clamp(min=0), (centers + sides / 2).minimum(limit)
    return torch.cat([low, high], dim=1)
