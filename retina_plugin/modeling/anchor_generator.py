"""``OctaveAnchorGenerator``: the paper's anchors from two numbers instead of a table of sizes (Sec. 4, Table 1c)."""

from collections.abc import Sequence

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator

from ..errors import require, require_retina_config
from ..ops import octave_sizes

__all__ = ["OctaveAnchorGenerator"]


@ANCHOR_GENERATOR_REGISTRY.register()
class OctaveAnchorGenerator(DefaultAnchorGenerator):
    """Detectron2's anchors with the sizes ``stride * base_size * 2^(j / scales_per_octave)`` on each level."""

    @configurable
    def __init__(
        self,
        *,
        base_size: float,
        scales_per_octave: int,
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]],
        strides: Sequence[int],
        offset: float,
    ):
        """
        Args:
            base_size: side of a level's smallest anchor in units of its stride, > 0 (paper: 4).
            scales_per_octave: sizes per level, >= 1 (paper: 3).
            aspect_ratios: height / width, for all levels or one list a level (paper: 0.5, 1, 2).
            strides: pixels, one a level.
            offset: centre of the first anchor in units of the stride, in [0, 1).
        """
        base_key, scales_key = "MODEL.ANCHOR_GENERATOR.BASE_SIZE", "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE"
        require(0 < base_size < float("inf"), base_key, "in (0, inf)", base_size)
        require(scales_per_octave >= 1, scales_key, "in [1, inf)", scales_per_octave)
        sizes = octave_sizes(strides, base_size=base_size, scales_per_octave=scales_per_octave)
        super().__init__(sizes=sizes, aspect_ratios=aspect_ratios, strides=strides, offset=offset)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        require_retina_config(cfg)
        arguments = super().from_config(cfg, input_shape)
        del arguments["sizes"]
        return {
            **arguments,
            "base_size": cfg.MODEL.ANCHOR_GENERATOR.BASE_SIZE,
            "scales_per_octave": cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE,
        }
