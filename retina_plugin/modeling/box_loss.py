"""Box regression loss of each positive anchor (paper Sec. 4.1; the IoU losses are Detectron2's).

Detectron2's ``_dense_box_regression_loss`` returns the sum alone and encodes all N x R anchors; OHEM ranks single ones.
"""

from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor

__all__ = ["BOX_REG_LOSS_TYPES", "box_regression_losses"]

IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}
# Values of MODEL.RETINANET.BBOX_REG_LOSS_TYPE.
BOX_REG_LOSS_TYPES = ("smooth_l1", *IOU_LOSSES)


def box_regression_losses(
    pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor, *, transform: Box2BoxTransform, loss_type: str,
    smooth_l1_beta: float,
) -> Tensor:  # fmt: skip
    """Compute the loss of each of P matched anchors.

    Args:
        pred_deltas: (P, 4) predictions of the head. anchors, gt_boxes: (P, 4) XYXY, pixels. P may be 0.
        transform: the encoding between boxes and deltas.
        loss_type: one of BOX_REG_LOSS_TYPES; "smooth_l1" compares deltas, the others boxes.
        smooth_l1_beta: knee of smooth L1, >= 0; below 1e-5 it is L1 (fvcore).

    Returns:
        (P,) losses, "smooth_l1" summed over the four deltas.
    """
    if loss_type == "smooth_l1":
        target = transform.get_deltas(anchors, gt_boxes)
        return smooth_l1_loss(pred_deltas, target, beta=smooth_l1_beta, reduction="none").sum(dim=1)
    return IOU_LOSSES[loss_type](transform.apply_deltas(pred_deltas, anchors), gt_boxes, reduction="none")
