"""``inference``: image in, detections out, beside Detectron2's and torchvision's RetinaNet R-50."""

from collections.abc import Callable, Iterator

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from ..modeling import fold_batch_norms
from .detectors import build_pair, random_image
from .limits import convolution_rate
from .measurement import Measurement, Settings, compare
from .timing import spread, time_in_turn

__all__ = ["HELP", "measure"]

HELP = "inference end to end, R-50; batch and image size"

DEPTH, QUICK_DEPTH = 50, 18
SIZE, QUICK_SIZE = (800, 1088), (192, 256)  # short side 800 (paper Sec. 4.1), and a multiple of 32 near 4:3
AREA_SWEEP = ((224, 288), (320, 416), (448, 608), (640, 864), (800, 1088))
BATCH_SWEEP, BATCH_SIZE = (1, 2, 4, 8), (320, 416)


@torch.no_grad()
def measure(settings: Settings) -> Iterator[Measurement]:
    """One image; then, unless quick, images of other sizes and batches."""
    ours, theirs = build_pair(QUICK_DEPTH if settings.quick else DEPTH, settings.device)
    ours = fold_batch_norms(ours).to(memory_format=torch.channels_last)
    models = {"retina_plugin": ours, "Detectron2": theirs.eval()}
    if settings.quick:
        yield _measure(settings, models, QUICK_SIZE, batch=1, sweep="")
        return
    peers = {"torchvision": retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval().to(settings.device)}
    yield _measure(settings, {**models, **peers}, SIZE, batch=1, sweep="")
    for size in AREA_SWEEP:
        yield _measure(settings, models, size, batch=1, sweep="pixels")
    for batch in BATCH_SWEEP:
        yield _measure(settings, models, BATCH_SIZE, batch=batch, sweep="batch")


def _measure(
    settings: Settings, models: dict[str, nn.Module], size: tuple[int, int], *, batch: int, sweep: str
) -> Measurement:
    images = [random_image(*size) for _ in range(batch)]
    work = {name: _inference(model, images) for name, model in models.items()}
    ours, theirs = (work[name]()[0]["instances"] for name in ("retina_plugin", "Detectron2"))
    num_compared = min(len(ours), len(theirs))
    network = models["retina_plugin"]
    batched = network.preprocess_image(images).tensor
    (alone,) = time_in_turn(
        {"": lambda: network.head(list(network.backbone(batched).values()))}, rounds=settings.rounds, warmup=1
    ).values()
    multiply_adds = _multiply_adds(network, batched)
    return compare(
        "inference", "image in, detections out", work, ours="retina_plugin", settings=settings, warmup=1,
        parameters={"height": size[0], "width": size[1], "pixels": size[0] * size[1], "batch": batch, "sweep": sweep},
        equality={
            "detections, difference in number": float(abs(len(ours) - len(theirs))),
            "scores": (ours.scores[:num_compared] - theirs.scores[:num_compared]).abs().max().item(),
        },
        limits={"multiply-adds of the convolutions": multiply_adds / convolution_rate(settings.device)},
        figures={
            "network alone, seconds": spread(alone).median, "multiply-adds": multiply_adds, "detections": len(ours)
        },
    )  # fmt: skip


def _inference(model: nn.Module, images: list[dict]) -> Callable[[], list]:
    if hasattr(model, "preprocess_image"):
        return lambda: model(images)
    tensors = [image["image"].to(next(model.parameters()).device).float() / 255 for image in images]
    return lambda: model(tensors)  # torchvision wants RGB in [0, 1]


def _multiply_adds(network: nn.Module, batched: torch.Tensor) -> float:
    """Of the convolutions, which are all but a thousandth of the network's."""
    features = list(network.backbone(batched).values())
    counts = (FlopCountAnalysis(network.backbone, (batched,)), FlopCountAnalysis(network.head, (features,)))
    return float(sum(count.unsupported_ops_warnings(False).by_operator()["conv"] for count in counts))
