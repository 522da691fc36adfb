"""``export``: exported detectors on the CPU beside the PyTorch model that they came from."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from retina_plugin.apps.export.detector import ExportableDetector
from retina_plugin.apps.export.onnx_format import to_onnx
from retina_plugin.apps.export.onnx_precision import to_half, to_int8
from retina_plugin.apps.export.runtime import detections_differ, load_exported
from retina_plugin.apps.export.torch_formats import to_torch_export, to_torchscript
from retina_plugin.errors import SetupError

from .detectors import build_pair, random_image
from .measurement import Measurement, Settings, compare

__all__ = ["HELP", "measure"]

HELP = "exported detectors in their runtimes, R-50"

DEPTH, QUICK_DEPTH = 50, 18
SIZES, QUICK_SIZE = ((320, 416), (800, 1088)), (192, 256)  # the paper's short side, and a small image
MAX_BOX, MAX_SCORE = 0.05, 1e-4  # pixels and score within which detections are the same


@torch.no_grad()
def measure(settings: Settings) -> Iterator[Measurement]:
    """One image of each size in PyTorch, TorchScript, torch.export and ONNX Runtime in three precisions."""
    if settings.device != "cpu":
        raise SetupError("the case export measures the CPU, on which ONNX Runtime runs: leave out --device.")
    ours, _ = build_pair(QUICK_DEPTH if settings.quick else DEPTH, settings.device)
    detector = ExportableDetector(ours).eval()
    with tempfile.TemporaryDirectory() as folder:
        files = _write_files(detector, Path(folder), random_image(*QUICK_SIZE)["image"][None].numpy())
        run = {name: load_exported(path) for name, path in files.items()}
        for size in (QUICK_SIZE,) if settings.quick else SIZES:
            yield _measure(settings, detector, run, files, size)


def _write_files(detector: ExportableDetector, folder: Path, calibration: np.ndarray) -> dict[str, Path]:
    model = to_onnx(detector, {}, dtype=torch.uint8)
    content = {
        "ONNX Runtime": ("fp32.onnx", model.SerializeToString()),
        "ONNX Runtime, fp16": ("fp16.onnx", to_half(model).SerializeToString()),
        "ONNX Runtime, int8": ("int8.onnx", to_int8(model, [calibration]).SerializeToString()),
        "TorchScript": ("script.pt", to_torchscript(detector, dtype=torch.uint8)),
        "torch.export": ("program.pt2", to_torch_export(detector, dtype=torch.uint8)),
    }
    for name, data in content.values():
        (folder / name).write_bytes(data)
    return {variant: folder / name for variant, (name, _) in content.items()}


def _measure(
    settings: Settings,
    detector: ExportableDetector,
    run: dict[str, Callable],
    files: dict[str, Path],
    size: tuple[int, int],
) -> Measurement:
    images = random_image(*size)["image"][None]
    expected = tuple(output.numpy() for output in detector(images))
    work: dict[str, Callable] = {"PyTorch": lambda: detector(images)}
    work |= {name: (lambda call=call: call(images.numpy())) for name, call in run.items()}
    differ = {
        f"{name}, images that differ": float(
            detections_differ(
                call(images.numpy()), expected,
                max_box=MAX_BOX, max_score=MAX_SCORE, threshold=detector.score_thresh,
            ) != ""
        )
        for name, call in run.items()
        if "fp16" not in name and "int8" not in name
    }  # fmt: skip
    return compare(
        "export", "image in, detections out", work, ours="PyTorch", settings=settings, warmup=1,
        parameters={"height": size[0], "width": size[1], "batch": 1},
        equality=differ,
        figures={f"{name}, MB": path.stat().st_size / 1e6 for name, path in files.items()},
    )  # fmt: skip
