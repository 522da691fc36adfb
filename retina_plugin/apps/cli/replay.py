"""``retina replay``: a training step whose loss was not finite, once more, part by part."""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["main", "replay"]

EXAMPLES = """
Examples:
  what was wrong with the step that ended a run
    retina replay output/mine/bad_steps/iteration_0000120.pth
  on the GPU, where it happened
    retina replay output/mine/bad_steps/iteration_0000120.pth --device cuda
"""
# Parameters named in the report.
MAX_NAMED = 5
# Relative difference up to which a finite loss counts as the same: of sums in another order, on another device.
TOLERANCE = 1e-3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step of a dump again and print what it gave.

    Returns:
        0: the losses are those of the training; 1: they are others; 2: the dump cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="retina replay", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dump", type=Path, help="that a training wrote into OUTPUT_DIR/bad_steps")
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    args = parser.parse_args(argv)
    from ...errors import SetupError, print_error, printable

    try:
        report = replay(args.dump, args.device)
    except SetupError as error:
        print_error(error)
        return 2
    print(printable(_format(report)))
    return 0 if report["same"] else 1


def replay(path: Path, device: str = "cpu") -> dict[str, Any]:
    """The step of a dump: the same weights, batch and random numbers, forward and backward.

    Returns:
        ``iteration``, ``process``; ``then`` and ``now``: loss -> value (of a batch in parts ``then`` has
        those that are not finite); ``same``: whether they agree; ``images``: for
        each its name, size, number of boxes, inputs that are not finite, and its losses alone; ``gradients``: names of
        the parameters whose gradient is not finite.

    Raises:
        SetupError: the file is no dump, or its model cannot be built here.
    """
    import torch

    from ...errors import SetupError
    from ...training.step_dump import batch_of, not_finite_inputs, read_dump

    dump = read_dump(path)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SetupError(f"--device {device} is not there: leave it out to replay on the CPU.")
    model, batch = _build(dump, device), batch_of(dump)
    now = _losses(model, dump, batch, backward=True)
    gradients = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    images = [
        {
            "file": record.get("file_name", ""),
            "size": tuple(record["image"].shape[-2:]),
            "boxes": len(record.get("instances", ())),
            "not_finite": not_finite_inputs(record),
            "losses": _losses(model, dump, [record], backward=False),
        }
        for record in batch
    ]
    return {
        "iteration": dump["iteration"],
        "process": dump["process"],
        "then": dump["losses"],
        "now": now,
        "same": _is_same(dump, now),
        "images": images,
        "gradients": gradients,
        "num_gradients": sum(p.grad is not None for p in model.parameters()),
    }


def _build(dump: dict[str, Any], device: str) -> "nn.Module":
    from ...config.load import load_config
    from ...errors import SetupError
    from ...training.trainer import RetinaTrainer

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(dump["config"], encoding="utf-8")
        cfg = load_config(str(config), ["MODEL.DEVICE", device])
    try:
        model = RetinaTrainer.build_model(cfg)
    except KeyError as error:  # of a registry: a part of the user's own
        raise SetupError(f"the model of the dump has a part that is not registered here: {error.args[0]}") from error
    model.load_state_dict(dump["model"])
    return model.train()


def _losses(model: "nn.Module", dump: dict[str, Any], batch: list[dict], *, backward: bool) -> dict[str, float]:
    import torch
    from detectron2.utils.events import EventStorage

    from ...training.step_dump import restore_random_state

    for name, average in dump["normalizers"].items():
        model.get_submodule(name).average.copy_(average)
    restore_random_state(dump["random_state"])
    with EventStorage(dump["iteration"]), torch.autocast("cuda", enabled=dump["amp"] and model.device.type == "cuda"):
        with torch.set_grad_enabled(backward):
            losses = model(batch)
    if backward:
        sum(losses.values()).backward()
    return {name: loss.item() for name, loss in losses.items()}


def _is_same(dump: dict[str, Any], now: dict[str, float]) -> bool:
    then = dump["losses"]
    expected = {name: now[name] for name in now if name in then} if dump.get("in_parts") else now
    return then.keys() == expected.keys() and all(_agree(then[name], expected[name]) for name in then)


def _agree(then: float, now: float) -> bool:
    if math.isfinite(then) and math.isfinite(now):
        return math.isclose(then, now, rel_tol=TOLERANCE)
    return repr(then) == repr(now)  # nan, inf, -inf


def _format(report: dict[str, Any]) -> str:
    process = f" of process {report['process']}" if report["process"] else ""
    lines = [f"iteration {report['iteration']}{process}"]
    for name, now in report["now"].items():
        then = f"{report['then'][name]:.6g}" if name in report["then"] else "finite"
        lines.append(f"  {name:14} {now:12.6g}   in the training {then}")
    lines.append("images, each alone")
    for image in report["images"]:
        losses = "  ".join(f"{name} {value:.6g}" for name, value in image["losses"].items())
        bad = f"   NaN or infinity in its {' and '.join(image['not_finite'])}" if image["not_finite"] else ""
        height, width = image["size"]
        lines.append(f"  {image['file']}  {width} x {height}, {image['boxes']} boxes  {losses}{bad}")
    bad = report["gradients"]
    more = f" and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
    named = f": {', '.join(bad[:MAX_NAMED])}{more}" if bad else ""
    lines.append(f"gradients not finite in {len(bad)} of {report['num_gradients']} parameters{named}")
    lines.append("the same as in the training" if report["same"] else "NOT the same as in the training")
    return "\n".join(lines)
