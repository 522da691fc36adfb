"""``postprocess``: from the network's maps to detections, beside Detectron2's."""

from collections.abc import Iterator

import torch
from detectron2.structures import ImageList

from .detectors import DELTA_DEVIATION, LOGIT_DEVIATION, LOGIT_MEAN, build_pair
from .measurement import Measurement, Settings, compare

__all__ = ["HELP", "measure"]

HELP = "candidates, decoding and NMS alone"

SIZE, QUICK_SIZE = (800, 1088), (256, 256)
BATCHES = (1, 2, 4, 8)


@torch.no_grad()
def measure(settings: Settings) -> Iterator[Measurement]:
    """One image, and then, unless quick, batches."""
    ours, theirs = (model.eval() for model in build_pair(18, settings.device))
    if settings.quick:
        yield _measure(settings, ours, theirs, QUICK_SIZE, batch=1, sweep="")
        return
    yield _measure(settings, ours, theirs, SIZE, batch=1, sweep="")
    for batch in BATCHES:
        yield _measure(settings, ours, theirs, SIZE, batch=batch, sweep="batch")


def _measure(settings: Settings, ours, theirs, size: tuple[int, int], *, batch: int, sweep: str) -> Measurement:
    torch.manual_seed(0)
    strides, num_anchors = ours.anchor_generator.strides, ours.anchor_generator.num_anchors[0]
    maps = [(batch, -(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
    logits, deltas = (
        [deviation * torch.randn(n, num_anchors * depth, height, width) + mean for n, height, width in maps]
        for depth, deviation, mean in ((ours.num_classes, LOGIT_DEVIATION, LOGIT_MEAN), (4, DELTA_DEVIATION, 0.0))
    )
    logits, deltas = ([level.to(settings.device) for level in levels] for levels in (logits, deltas))
    # As the head leaves them: channels-last ours, which are views of (N, Hi*Wi*A, K); contiguous Detectron2's.
    last = [[level.to(memory_format=torch.channels_last) for level in levels] for levels in (logits, deltas)]
    images = ImageList(torch.empty(batch, 3, *size), [size] * batch)
    work = {
        "retina_plugin": lambda: ours.forward_inference(images, logits, last),
        "Detectron2": lambda: theirs.forward_inference(images, logits, [logits, deltas]),
    }
    found, expected = (run()[0] for run in work.values())
    bound = torch.logit(torch.tensor(ours.test_score_thresh)).item()
    return compare(
        "postprocess", "maps to detections", work, ours="retina_plugin", settings=settings, memory=True,
        parameters={"height": size[0], "width": size[1], "batch": batch, "sweep": sweep},
        equality={
            "boxes": (found.pred_boxes.tensor - expected.pred_boxes.tensor).abs().max().item(),
            "scores": (found.scores - expected.scores).abs().max().item(),
        },
        figures={"candidates of the batch": sum(int((level > bound).sum()) for level in logits)},
    )  # fmt: skip
