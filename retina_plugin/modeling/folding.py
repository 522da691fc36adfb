"""Batch norms folded into the convolutions before them: the same function with fewer steps, for inference."""

import copy

from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["fold_batch_norms"]


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy of a model for inference, in eval mode, with each batch norm that follows a convolution folded into it.

    Equal up to rounding. Folded are Detectron2's ``Conv2d`` with a ``FrozenBatchNorm2d`` or ``BatchNorm2d``; group norm
    depends on the image and stays. The copy cannot be trained and its state dict has other keys: keep the model.
    """
    folded = copy.deepcopy(model).eval()
    for conv in folded.modules():
        norm = getattr(conv, "norm", None)
        if isinstance(conv, Conv2d) and isinstance(norm, (FrozenBatchNorm2d, nn.BatchNorm2d)):
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            conv.norm = None
    return folded.requires_grad_(False)
