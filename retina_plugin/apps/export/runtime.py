"""Runs an exported file and compares its detections with those of the original model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ...errors import SetupError, first_line

__all__ = ["Detections", "detections_differ", "load_exported"]

# boxes (N, D, 4), scores (N, D), classes (N, D), counts (N,)
Detections = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load_exported(path: Path, *, threads: int = 0) -> Callable[[np.ndarray], Detections]:
    """Load a file as a function from images (N, 3, H, W) to detections, on the CPU.

    Args:
        path: .onnx, .pt (TorchScript) or .pt2 (torch.export).
        threads: for ONNX Runtime; 0 for PyTorch's number, which the other two formats use.

    Raises:
        SetupError: the file is damaged, or of another kind.
    """
    try:
        if path.suffix == ".onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads or torch.get_num_threads()
            options.log_severity_level = 3  # errors
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return lambda images: tuple(session.run(None, {"images": images}))
        program = torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)
    except ImportError:
        raise
    except Exception as error:  # each of the three libraries has errors of its own
        raise SetupError(
            f"{path} cannot be run as an exported detector ({first_line(error)[:200]}). Export it again."
        ) from error

    @torch.no_grad()
    def run(images: np.ndarray) -> Detections:
        return tuple(output.numpy() for output in program(torch.from_numpy(images)))

    return run


def detections_differ(
    found: Detections, expected: Detections, *, max_box: float, max_score: float, threshold: float
) -> str:
    """Describe the first difference between two sets of detections of the same images; "" if there is none.

    Detections of equal score may come in any order. A detection may be missing if its score is within ``max_score`` of
    the threshold, or of the last score of a full list.

    Args:
        max_box: largest difference of a coordinate, pixels.
        max_score: largest difference of a score.
        threshold: the score threshold of both.
    """
    for image, (n, m) in enumerate(zip(found[3], expected[3], strict=True)):
        ours = [part[image, :n] for part in found[:3]]
        theirs = [part[image, :m] for part in expected[:3]]
        limit = max([threshold] + [d[1][image, -1] for d in (found, expected) if d[3][image] == d[1].shape[1]])
        for one, other, whose in ((ours, theirs, "exported"), (theirs, ours, "PyTorch")):
            for box, score, label in zip(*one, strict=True):
                near = (other[2] == label) & (np.abs(other[1] - score) <= max_score)
                near &= np.abs(other[0] - box).max(axis=1, initial=0) <= max_box
                if not near.any() and score > limit + max_score:
                    return f"image {image}: only {whose} finds class {label} at {box.tolist()} with score {score:.5f}"
    return ""
