"""``training_step``: forward, backward and optimiser of R-50, beside Detectron2's as shipped."""

import copy
from collections.abc import Callable, Iterator

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from retina_plugin.modeling.execution import bfloat16_is_fast, trains_channels_last, use_winograd

from .detectors import build_pair, random_image
from .measurement import Measurement, Settings, compare

__all__ = ["HELP", "measure"]

HELP = "a training step, R-50; batch and boxes an image"

DEPTH, QUICK_DEPTH = 50, 18
SIZE, QUICK_SIZE = 512, 128
BATCH, BOXES = 2, 10
BOX_SWEEP, SWEEP_SIZE = (1, 10, 100, 1000), 256  # small images, in which the boxes weigh most
LEARNING_RATE = 1e-5  # so that random weights neither move nor diverge


def measure(settings: Settings) -> Iterator[Measurement]:
    """Two images of ten boxes; then, unless quick, more boxes."""
    depth, size = (QUICK_DEPTH, QUICK_SIZE) if settings.quick else (DEPTH, SIZE)
    models = _models(depth, settings.device)
    yield _measure(settings, models, size, BOXES, sweep="")
    if not settings.quick:
        for boxes in BOX_SWEEP:
            yield _measure(settings, models, SWEEP_SIZE, boxes, sweep="boxes")


def _models(depth: int, device: str) -> dict[str, nn.Module]:
    """Variant -> its own model, of the same weights; ours first."""
    ours, theirs = (model.train() for model in build_pair(depth, device))
    if trains_channels_last(device, "fp32"):
        ours = ours.to(memory_format=torch.channels_last)
    models = {"retina_plugin": ours, "Detectron2": theirs}
    if device == "cpu":
        models["retina_plugin, winograd"] = copy.deepcopy(ours).to(memory_format=torch.channels_last)
        use_winograd(models["retina_plugin, winograd"])
    if bfloat16_is_fast(device):
        models["retina_plugin, bf16"] = copy.deepcopy(ours)
        models["retina_plugin, bf16"].precision = "bf16"
    return models


def _measure(settings: Settings, models: dict[str, nn.Module], size: int, boxes: int, *, sweep: str) -> Measurement:
    images = [random_image(size, size, boxes + i) for i in range(BATCH)]
    work = {name: _step(model, images) for name, model in models.items()}
    losses = {name: step() for name, step in work.items()}
    return compare(
        "training_step", "forward, backward, SGD", work, ours="retina_plugin", settings=settings, warmup=1, memory=True,
        parameters={"size": size, "batch": BATCH, "boxes": boxes, "sweep": sweep},
        equality={f"loss, {name}": abs(losses[name] - losses["retina_plugin"]) for name in work},
        figures={"loss": losses["retina_plugin"]},
    )  # fmt: skip


def _step(model: nn.Module, images: list[dict]) -> Callable[[], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)  # paper Sec. 4.1

    def step() -> float:
        with EventStorage():
            loss = sum(model(images).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return step
