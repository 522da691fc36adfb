"""``inference``: image in, detections out, beside Detectron2's and torchvision's RetinaNet R-50."""

import copy
from collections.abc import Callable, Iterator

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from retina_plugin.modeling import build_inference_model
from retina_plugin.modeling.execution import use_winograd

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
NEIGHBOUR_PIXELS = 160  # by which the neighbour in a batch is higher and wider: five strides of P5
LOGIT_CHANGE = 0.1  # a change of a score of at most 0.025


@torch.no_grad()
def measure(settings: Settings) -> Iterator[Measurement]:
    """One image; then, unless quick, images of other sizes and batches."""
    ours, theirs = build_pair(QUICK_DEPTH if settings.quick else DEPTH, settings.device)
    ours = build_inference_model(ours)
    models = {"retina_plugin": ours, "Detectron2": theirs.eval()}
    if settings.device == "cpu":
        winograd = copy.deepcopy(ours)
        use_winograd(winograd)
        models["retina_plugin, winograd"] = build_inference_model(winograd, inplace=True)
    if settings.quick:
        yield _measure(settings, models, QUICK_SIZE, batch=1, sweep="")
        return
    peers = {"torchvision": retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval().to(settings.device)}
    yield _measure(settings, {**models, **peers}, SIZE, batch=1, sweep="")
    for size in AREA_SWEEP:
        yield _measure(settings, models, size, batch=1, sweep="pixels")
    for batch in BATCH_SWEEP:
        yield _measure(settings, models, BATCH_SIZE, batch=batch, sweep="batch")
    yield _measure_padding(settings, models)


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


def _measure_padding(settings: Settings, models: dict[str, nn.Module]) -> Measurement:
    """An image beside a larger one, by which it is padded below and on the right; what that does to its logits."""
    images = [random_image(*BATCH_SIZE), random_image(*(side + NEIGHBOUR_PIXELS for side in BATCH_SIZE))]
    network = models["retina_plugin"]
    alone, padded = (_logits(network, batch) for batch in (images[:1], images))
    change = [
        (level - other[:1, :, : level.shape[2], : level.shape[3]]).abs()
        for level, other in zip(alone, padded, strict=True)
    ]
    every = torch.cat([level.flatten() for level in change])
    share = (every > LOGIT_CHANGE).float().mean().item()
    figures = {
        "largest change of a logit by padding": every.max().item(),
        f"share of logits that padding changes by more than {LOGIT_CHANGE}": share,
    }
    # P3 has most positions and the finest distances: columns from the right edge, in pixels.
    columns = (change[0] > LOGIT_CHANGE).any(dim=1).any(dim=1)[0].nonzero()
    stride = BATCH_SIZE[1] / change[0].shape[3]
    figures["furthest such logit of P3 from the right edge, pixels"] = (
        (change[0].shape[3] - columns.min().item()) * stride if len(columns) else 0.0
    )
    return compare(
        "inference", "a batch of two sizes", {name: _inference(model, images) for name, model in models.items()},
        ours="retina_plugin", settings=settings, warmup=1, figures=figures,
        parameters={"height": BATCH_SIZE[0], "width": BATCH_SIZE[1], "batch": 2, "sweep": ""},
    )  # fmt: skip


def _logits(network: nn.Module, images: list[dict]) -> list[torch.Tensor]:
    """Per level (N, A*K, Hi, Wi)."""
    return network.head(list(network.backbone(network.preprocess_image(images).tensor).values()))[0]


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
