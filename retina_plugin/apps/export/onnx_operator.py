"""Non-maximum suppression as one operator, which ``torch.onnx`` exports as ONNX's NonMaxSuppression."""

import torch
from torch import Tensor

from .detector import keep_best_of_class

__all__ = ["OPERATOR_TRANSLATIONS", "keep_by_operator"]


@torch.library.custom_op("retina_plugin::non_max_suppression", mutates_args=())
def non_max_suppression(boxes: Tensor, scores: Tensor, max_kept: int, threshold: float) -> Tensor:
    """Compute ONNX's NonMaxSuppression with a score threshold of 0.

    Args:
        boxes: (N, C, 4) XYXY.
        scores: (N, K, C).
        max_kept: number of boxes kept at most for each class of each image.
        threshold: IoU above which the box with the lower score is dropped.

    Returns:
        (S, 3) int64: image, class and index of each box that is kept.
    """
    num_classes = scores.shape[1]
    score, label = scores.max(dim=1)
    kept = keep_best_of_class(boxes, score, label, threshold, num_classes, max_kept)
    image, box = kept.nonzero(as_tuple=True)
    return torch.stack([image, label[image, box], box], dim=1)


@non_max_suppression.register_fake
def _(boxes: Tensor, scores: Tensor, max_kept: int, threshold: float) -> Tensor:
    num_kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((num_kept, 3), dtype=torch.int64)


def keep_by_operator(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, num_classes: int, max_kept: int
) -> Tensor:
    """Same as ``keep_best_of_class``, by the operator, which keeps at most ``max_kept`` boxes of a class."""
    num_images, num_candidates = scores.shape
    of_class = classes.unsqueeze(1) == torch.arange(num_classes, device=boxes.device).view(1, -1, 1)
    kept = non_max_suppression(boxes, torch.where(of_class, scores.unsqueeze(1), -1.0), max_kept, threshold)
    place = kept[:, 0] * num_candidates + kept[:, 2]
    mask = torch.zeros_like(scores, dtype=torch.bool).flatten()
    mask = mask.scatter(0, place, torch.ones_like(place, dtype=torch.bool))
    return mask.view(num_images, num_candidates)


def _translate(boxes, scores, max_kept: int, threshold: float):
    from onnxscript import opset18 as op

    score_threshold = op.Constant(value_floats=[0.0])
    return op.NonMaxSuppression(
        boxes, scores, op.Constant(value_ints=[max_kept]), op.Constant(value_floats=[threshold]), score_threshold
    )


# For torch.onnx.export(custom_translation_table=...).
OPERATOR_TRANSLATIONS = {torch.ops.retina_plugin.non_max_suppression.default: _translate}
