"""The values that a single config key may hold: a table of keys, allowed values and remedies.

``checks.py`` applies it and adds the checks that span several keys. The parts of ``modeling`` state the ranges of their
own keys, which are not repeated here. Detectron2 or PyTorch fails on a refused value, or turns the loss into NaN.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.utils import comm
from PIL import Image

from ..findings import Finding, finding
from ..modeling.box_loss import BOX_REG_LOSS_TYPES
from ..modeling.execution import PRECISIONS
from .keys import LOAD_WORDS

__all__ = ["COMMON_RULES", "RETINANET_RULES", "get_value", "image_channels", "interval", "one_of", "value_error"]

_NORMS = ("", "BN", "SyncBN", "FrozenBN", "GN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N", "LN")


@dataclass(frozen=True)
class Rule:
    """A key whose value must satisfy ``holds``: "KEY must be <requirement>, got <value>: <remedy>".

    ``only_if``: a key without which nothing reads this one; "" if it is always read.
    """

    key: str
    holds: Callable[[Any], bool]
    requirement: str
    remedy: str = ""
    only_if: str = ""

    def fault(self, cfg: CfgNode) -> str | None:
        """Return the sentence about a refused value; None for an allowed one or a key that this Detectron2 lacks."""
        try:
            value = get_value(cfg, self.key)
            if self.only_if and not get_value(cfg, self.only_if):
                return None
        except KeyError:
            return None
        try:
            if self.holds(value):
                return None
        except (TypeError, ValueError):  # a value of another type
            pass
        return f"{self.key} must be {self.requirement}, got {value!r}" + (self.remedy and f": {self.remedy}")


def get_value(cfg: CfgNode, key: str) -> Any:
    """Return the value of a dotted key, or raise KeyError."""
    value = cfg
    for part in key.split("."):
        value = value[part]
    return value


def interval(key: str, text: str, remedy: str = "", only_if: str = "") -> Rule:
    """``key`` is a number in an interval written as in mathematics: "[0, 1)"; "[0, inf)" asks for a finite one."""
    low, high = (float(bound) for bound in text[1:-1].split(","))

    def holds(value: float) -> bool:
        above = value >= low if text[0] == "[" else value > low
        below = value <= high if text[-1] == "]" else value < high
        return not isinstance(value, (bool, str)) and above and below

    return Rule(key, holds, f"in {text}", remedy, only_if)


def one_of(key: str, *options: Any, only_if: str = "") -> Rule:
    """``key`` is one of a few names or numbers."""
    return Rule(key, lambda value: value in options, f"one of {', '.join(map(repr, options))}", only_if=only_if)


def _is_norm(name: str) -> bool:
    """Return True if Detectron2 knows a normalisation layer of this name: it has no list of them to read."""
    try:
        get_norm(name, 32)
    except KeyError:
        return False
    return True


def _norm(key: str) -> Rule:
    return Rule(key, _is_norm, f"one of {', '.join(repr(name) for name in _NORMS if _is_norm(name))}")


def _numbers(key: str, holds: Callable[[float], bool], requirement: str, remedy: str = "") -> Rule:
    """``key`` is a list of at least one number, each of which satisfies ``holds``."""

    def all_hold(values: Iterable[float]) -> bool:
        values = list(values)
        return bool(values) and all(not isinstance(v, bool) and math.isfinite(v) and holds(v) for v in values)

    return Rule(key, all_hold, requirement, remedy)


def image_channels(image_format: str) -> int | None:
    """Channels of ``INPUT.FORMAT``; None for a format that neither Detectron2 nor Pillow has."""
    if image_format in ("BGR", "YUV-BT.601"):
        return 3
    try:
        return Image.getmodebands(image_format)
    except KeyError:
        return None


_R = "MODEL.RETINANET."
RETINANET_RULES = (
    interval(_R + "NUM_CLASSES", "[0, inf)", "0 takes the number from the data"),
    interval(_R + "NUM_CONVS", "[1, inf)"),
    interval(_R + "PRIOR_PROB", "(0, 1)", "set MODEL.RETINANET.USE_PRIOR False to start without a prior"),
    interval(_R + "SMOOTH_L1_LOSS_BETA", "[0, inf)"),
    one_of(_R + "BBOX_REG_LOSS_TYPE", *BOX_REG_LOSS_TYPES),
    Rule(_R + "BBOX_REG_WEIGHTS", lambda v: len(v) == 4 and all(0 < w < math.inf for w in v), "4 numbers above 0"),
    _numbers(_R + "IOU_THRESHOLDS", lambda v: 0 < v <= 1, "a list of numbers in (0, 1]"),
    _numbers(_R + "IOU_LABELS", lambda v: v in (-1, 0, 1), "a list of -1 (ignored), 0 (background) and 1 (positive)"),
    _norm(_R + "NORM"),
    _norm("MODEL.FPN.NORM"),
    _norm("MODEL.RESNETS.NORM"),
    interval(_R + "SCORE_THRESH_TEST", "[0, 1]"),
    interval(_R + "NMS_THRESH_TEST", "[0, 1]"),
    interval(_R + "TOPK_CANDIDATES_TEST", "[1, inf)"),
    interval("MODEL.ANCHOR_GENERATOR.OFFSET", "[0, 1)", "it is in units of the stride; 0.5 is the middle of a cell"),
    interval("MODEL.BACKBONE.FREEZE_AT", "[0, inf)"),
    interval("MODEL.FPN.OUT_CHANNELS", "[1, inf)"),
    one_of("MODEL.FPN.FUSE_TYPE", "sum", "avg"),
    interval("MODEL.RESNETS.NUM_GROUPS", "[1, inf)"),
    interval("MODEL.RESNETS.WIDTH_PER_GROUP", "[1, inf)"),
    interval("MODEL.RESNETS.RES2_OUT_CHANNELS", "[1, inf)"),
    interval("MODEL.RESNETS.STEM_OUT_CHANNELS", "[1, inf)"),
    one_of("MODEL.RESNETS.RES5_DILATION", 1, 2),
    Rule("MODEL.RESNETS.DEFORM_ON_PER_STAGE", lambda v: len(v) == 4, "4 values, one for each of res2 to res5"),
    *(
        Rule(key, lambda v: not v, "False", f"RetinaNet has no use for {part}, and looks for them in the data")
        for key, part in (("MODEL.KEYPOINT_ON", "keypoints"), ("MODEL.LOAD_PROPOSALS", "proposals"))
    ),
    one_of("MODEL.PRECISION", *PRECISIONS),
)

# As Detectron2's evaluators and training/hooks/validation.py name their scalars.
_METRIC = re.compile(r"|(.+/)?bbox/AP.*|validation/(.+/)?(total_loss|loss_cls|loss_box_reg)")

_CLIP, _CROP = "SOLVER.CLIP_GRADIENTS", "INPUT.CROP"


def _is_expected_result(entry: Any) -> bool:
    """Return True for [task, metric, value, tolerance], as Detectron2's ``verify_results`` reads it."""
    task, metric, *numbers = entry
    return isinstance(task, str) and isinstance(metric, str) and len([float(n) for n in numbers]) == 2


COMMON_RULES = (
    # A process adds its rank, and NumPy takes no larger seed.
    Rule("SEED", lambda v: v + comm.get_world_size() <= 2**32, "below 2 ** 32 (4294967296)", "-1 draws one"),
    interval("VIS_PERIOD", "[0, inf)", "0 draws nothing"),
    Rule(
        "MODEL.LOAD",
        lambda v: set(v.split("+")) <= {"strict", *LOAD_WORDS},
        "'strict' or words of " + ", ".join(map(repr, LOAD_WORDS)) + " joined by '+'",
    ),
    _numbers("MODEL.PIXEL_MEAN", lambda v: True, "a list of finite numbers, one a channel"),
    _numbers("MODEL.PIXEL_STD", lambda v: v > 0, "a list of numbers above 0, one a channel"),
    Rule("INPUT.FORMAT", lambda v: image_channels(v) is not None, "'BGR', 'RGB', 'L' or another mode of Pillow's"),
    _numbers("INPUT.MIN_SIZE_TRAIN", lambda v: v >= 0, "a list of sizes in pixels, 0 to keep an image's own"),
    one_of("INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice", "range"),
    interval("INPUT.MAX_SIZE_TRAIN", "[1, inf)"),
    interval("INPUT.MIN_SIZE_TEST", "[0, inf)"),
    interval("INPUT.MAX_SIZE_TEST", "[1, inf)"),
    one_of(_CROP + ".TYPE", "relative_range", "relative", "absolute", "absolute_range", only_if=_CROP + ".ENABLED"),
    Rule(
        _CROP + ".SIZE",
        lambda v: len(v) == 2 and all(0 < side < math.inf and not isinstance(side, bool) for side in v),
        "2 numbers above 0",
        only_if=_CROP + ".ENABLED",
    ),
    one_of("INPUT.MASK_FORMAT", "polygon", "bitmask", only_if="MODEL.MASK_ON"),
    one_of("INPUT.RANDOM_FLIP", "none", "horizontal", "vertical"),
    interval("DATALOADER.NUM_WORKERS", "[0, inf)"),
    one_of(
        "DATALOADER.SAMPLER_TRAIN",
        "TrainingSampler",
        "RepeatFactorTrainingSampler",
        "RandomSubsetTrainingSampler",
        "WeightedTrainingSampler",
        "WeightedCategoryTrainingSampler",
    ),
    interval("DATALOADER.REPEAT_THRESHOLD", "[0, 1]", "it is a part of the images; 0 repeats none"),
    interval("SOLVER.IMS_PER_BATCH", "[1, inf)"),
    interval("SOLVER.MAX_ITER", "[1, inf)"),
    interval(
        "SOLVER.CHECKPOINT_PERIOD", "[1, inf)", "the last iteration is saved anyway; one above MAX_ITER saves no other"
    ),
    # At 0 the cosine schedule, which divides by it, fails; another would train nothing.
    interval("SOLVER.BASE_LR", "(0, inf)", "the linear rule gives 0.01 for 16 images"),
    one_of("SOLVER.OPTIMIZER", "SGD", "AdamW"),
    one_of("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    one_of("SOLVER.WARMUP_METHOD", "linear", "constant"),
    interval("SOLVER.BIAS_LR_FACTOR", "[0, inf)", "1 gives biases the same rate"),
    interval("SOLVER.WEIGHT_DECAY_NORM", "[0, inf)"),
    Rule(
        "SOLVER.WEIGHT_DECAY_BIAS",
        lambda v: v is None or (not isinstance(v, bool) and 0 <= v < math.inf),
        "None, as WEIGHT_DECAY, or in [0, inf)",
    ),
    interval("SOLVER.REFERENCE_WORLD_SIZE", "[0, inf)", "0 leaves the schedule as it stands"),
    one_of(_CLIP + ".CLIP_TYPE", "value", "norm", only_if=_CLIP + ".ENABLED"),
    interval(_CLIP + ".CLIP_VALUE", "(0, inf)", only_if=_CLIP + ".ENABLED"),
    interval(_CLIP + ".NORM_TYPE", "(0, inf]", "2.0 is the usual norm", only_if=_CLIP + ".ENABLED"),
    interval("SOLVER.MOMENTUM", "[0, 1)"),
    interval("SOLVER.WEIGHT_DECAY", "[0, inf)"),
    interval("SOLVER.GAMMA", "(0, inf)"),
    interval("SOLVER.WARMUP_ITERS", "[0, inf)"),
    interval("SOLVER.WARMUP_FACTOR", "[0, inf)"),
    interval("SOLVER.REFERENCE_BATCH", "[0, inf)", "0 leaves the schedule as it stands"),
    interval("SOLVER.ACCUMULATION_STEPS", "[1, inf)", "1 takes the batch at once"),
    interval("SOLVER.EMA_DECAY", "[0, 1)", "0 keeps no average, 0.999 is a usual share"),
    interval("SOLVER.KEEP_CHECKPOINTS", "[0, inf)", "0 keeps all"),
    interval("SOLVER.EARLY_STOPPING.PATIENCE", "[0, inf)", "0 never stops early"),
    interval("SOLVER.EARLY_STOPPING.MIN_DELTA", "[0, inf)"),
    one_of("SOLVER.FAULTS.NONFINITE_LOSS", "stop", "skip"),
    one_of("SOLVER.FAULTS.OUT_OF_MEMORY", "stop", "skip", "split"),
    interval("TEST.EVAL_PERIOD", "[0, inf)", "0 evaluates at the end only"),
    interval("TEST.LOSS_PERIOD", "[0, inf)", "0 never looks"),
    interval("TEST.PRECISE_BN.NUM_ITER", "[1, inf)", only_if="TEST.PRECISE_BN.ENABLED"),
    Rule(
        "TEST.EXPECTED_RESULTS",
        lambda v: all(_is_expected_result(entry) for entry in v),
        "a list of [task, metric, value, tolerance]",
        "[['bbox', 'AP', 37.4, 0.5]] is one entry",
    ),
    Rule(
        "TEST.BEST_METRIC",
        lambda v: bool(_METRIC.fullmatch(v)),
        "'' or the name of a metric",
        "bbox/AP, bbox/AP50, bbox/AP-<class> or validation/total_loss, with <set>/ before bbox or total_loss where "
        "DATASETS.TEST has several",
    ),
    _numbers("TEST.AUG.MIN_SIZES", lambda v: v > 0, "a list of sizes in pixels"),
    interval("TEST.AUG.MAX_SIZE", "[1, inf)"),
    interval("TEST.DETECTIONS_PER_IMAGE", "[1, inf)"),
    interval("ANALYSIS.LOSS_CDF_PERIOD", "[0, inf)", "0 never looks"),
)


def value_error(text: str) -> Finding:
    """Make the finding for a value that cannot work; the sentence must name its key first."""
    key = re.search(r"[A-Z0-9_]+(\.[A-Z0-9_]+)+|OUTPUT_DIR", text)
    return finding("config-value", key.group() if key else "config", text)
