"""``AnchorLayout``: the anchors of a config, from Detectron2's generator, without loading weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor

from ...config.load import with_values
from ...errors import SetupError
from ...modeling import OctaveAnchorGenerator
from ...ops.anchors import best_anchors, grid_sizes
from ...training.trial import build_without_weights

__all__ = ["AnchorLayout", "build_detector", "resized_size"]


@dataclass(frozen=True)
class AnchorLayout:
    """Anchors of L pyramid levels, A at each point of a level."""

    # Names of the feature maps, such as "p3".
    level_names: tuple[str, ...]
    strides: tuple[int, ...]
    # For each level (A, 4) XYXY around a grid point, pixels, float64.
    cell_anchors: tuple[Tensor, ...]
    # Distance of a level's first point from the image's corner, in strides.
    offset: float
    # Sides of images are padded to a multiple of size_divisibility, after padding to a square of side square_size
    # (0: no square).
    size_divisibility: int
    square_size: int
    # Number of channels of the feature maps, the input of the class layer.
    channels: int

    @property
    def per_point(self) -> int:
        """A, the number of anchors at a point; the largest of any level."""
        return max(len(cells) for cells in self.cell_anchors)

    def grid_sizes(self, image_sizes: Tensor) -> Tensor:
        """Convert (N, 2) heights and widths of resized images to (N, L, 2) rows and columns of the levels."""
        return grid_sizes(
            image_sizes, self.strides, size_divisibility=self.size_divisibility, square_size=self.square_size
        )

    def best_anchors(self, boxes: Tensor, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Best IoU and index of its anchor shape for (M, 4) boxes on (M, L, 2) grids; see ``ops.best_anchors``."""
        return best_anchors(boxes, self.cell_anchors, grids, strides=self.strides, offset=self.offset)

    def shapes(self) -> list[tuple[int, float, float]]:
        """(level, width, height) of every anchor shape, in the order of ``best_anchors``."""
        return [
            (level, *(cell[2:] - cell[:2]).tolist()) for level, cells in enumerate(self.cell_anchors) for cell in cells
        ]

    def with_octaves(self, base_size: float, scales: int, ratios: Sequence[float]) -> "AnchorLayout":
        """Return the same grid with the anchors of ``OctaveAnchorGenerator``."""
        generator = OctaveAnchorGenerator(
            base_size=base_size,
            scales_per_octave=scales,
            aspect_ratios=[list(ratios)],
            strides=list(self.strides),
            offset=self.offset,
        )
        return replace(self, cell_anchors=_cell_anchors(generator))

    def with_sizes(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> "AnchorLayout":
        """Return the same grid with the anchors of ``DefaultAnchorGenerator``, with a list of sizes for each level."""
        generator = DefaultAnchorGenerator(
            sizes=[list(level) for level in sizes],
            aspect_ratios=[list(ratios)],
            strides=list(self.strides),
            offset=self.offset,
        )
        return replace(self, cell_anchors=_cell_anchors(generator))


def build_detector(cfg: CfgNode, config_file: str) -> tuple[RetinaNet, AnchorLayout]:
    """Build the detector without memory for its weights (torch's "meta" device), and its anchors.

    Its anchor generator and matcher work; the network cannot run.

    Raises:
        SetupError: the config builds no RetinaNet, or a level has no anchors or no upright boxes.
    """
    num_classes = max(1, cfg.MODEL.RETINANET.NUM_CLASSES)  # 0 means "as in the data"; any number will do
    cfg = with_values(cfg, {"MODEL.DEVICE": "cpu", "MODEL.RETINANET.NUM_CLASSES": num_classes})
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY or not issubclass(META_ARCH_REGISTRY.get(name), RetinaNet):
        raise SetupError(
            f"{config_file}: MODEL.META_ARCHITECTURE must be a RetinaNet to have dense anchors, got "
            f"{name}: set FocalRetinaNet."
        )
    try:
        model = build_without_weights(cfg)
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise SetupError(f"{config_file}: the detector and its anchors cannot be built: {error}.") from error
    if getattr(model.anchor_generator, "box_dim", 4) != 4 or not hasattr(model.anchor_generator, "cell_anchors"):
        raise SetupError(
            f"{config_file}: MODEL.ANCHOR_GENERATOR.NAME must give upright boxes on a grid, got "
            f"{cfg.MODEL.ANCHOR_GENERATOR.NAME}: take OctaveAnchorGenerator or DefaultAnchorGenerator."
        )
    shapes = [model.backbone.output_shape()[name] for name in model.head_in_features]
    constraints = model.backbone.padding_constraints
    layout = AnchorLayout(
        level_names=tuple(model.head_in_features),
        strides=tuple(shape.stride for shape in shapes),
        cell_anchors=_cell_anchors(model.anchor_generator),
        offset=model.anchor_generator.offset,
        size_divisibility=constraints.get("size_divisibility", model.backbone.size_divisibility),
        square_size=constraints.get("square_size", 0),
        channels=shapes[0].channels,
    )
    if not all(len(cells) for cells in layout.cell_anchors):
        raise SetupError(
            f"{config_file}: MODEL.ANCHOR_GENERATOR must give each level an anchor, got none on a level: "
            "SIZES and ASPECT_RATIOS (or SCALES_PER_OCTAVE) need at least one number."
        )
    return model, layout


def resized_size(cfg: CfgNode, height: int, width: int) -> tuple[int, int]:
    """Height and width after the test-time resize of ``cfg`` (INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST), before padding."""
    if cfg.INPUT.MIN_SIZE_TEST == 0:  # no resizing, as in Detectron2; MAX_SIZE_TEST is ignored
        return height, width
    return ResizeShortestEdge.get_output_shape(height, width, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)


def _cell_anchors(generator: torch.nn.Module) -> tuple[Tensor, ...]:
    return tuple(cells.double() for cells in generator.cell_anchors)
