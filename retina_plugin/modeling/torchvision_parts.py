"""The two parts of torchvision's ``retinanet_resnet50_fpn`` (v1) that Detectron2 lacks, to run its weights."""

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from detectron2.modeling.backbone.fpn import FPN, LastLevelP6P7
from detectron2.modeling.backbone.resnet import build_resnet_backbone
from torch import Tensor

__all__ = ["TorchvisionAnchorGenerator", "build_retinanet_p5_resnet_fpn_backbone"]


@BACKBONE_REGISTRY.register()
def build_retinanet_p5_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build Detectron2's ``build_retinanet_resnet_fpn_backbone`` with P6 from P5, where the paper takes C5."""
    in_features, out_channels = cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS
    last = in_features[-1].replace("res", "p")
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=in_features,
        out_channels=out_channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7(out_channels, out_channels, in_feature=last),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@ANCHOR_GENERATOR_REGISTRY.register()
class TorchvisionAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's anchors with torchvision's rounding: corners to pixels, steps to whole parts of the image.

    Where the padded image is not a multiple of the stride of P6 or P7, torchvision divides its side by the number of
    cells: 800 px in 7 cells are steps of 114 px, not 128, and the last anchor lies 84 px from Detectron2's. Its
    weights were trained with these anchors.
    """

    def generate_cell_anchors(self, *args, **kwargs) -> Tensor:
        return super().generate_cell_anchors(*args, **kwargs).round()

    def _grid_anchors(self, grid_sizes: list[tuple[int, int]]) -> list[Tensor]:
        # Padding is to 32 px, so that the cells of the finest level fill the image exactly.
        height, width = (cells * self.strides[0] for cells in grid_sizes[0])
        anchors = []
        for (num_rows, num_columns), cell_anchors in zip(grid_sizes, self.cell_anchors, strict=True):
            y = torch.arange(num_rows, device=cell_anchors.device) * (height // num_rows)
            x = torch.arange(num_columns, device=cell_anchors.device) * (width // num_columns)
            shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=-1).view(-1, 1, 4)
            anchors.append((shifts + cell_anchors).reshape(-1, 4))  # (Hi*Wi, A, 4) -> (Hi*Wi*A, 4)
        return anchors
