"""The keys that retina_plugin adds to Detectron2's config: the one home of their defaults.

Every default reproduces Detectron2's own RetinaNet, so that one of its YAML files behaves the same with
``MODEL.META_ARCHITECTURE: FocalRetinaNet`` as its only change. The paper's choices are in ``configs/Base-Retina.yaml``.
Alpha, gamma, the prior, the IoU thresholds and the box loss keep Detectron2's keys (``MODEL.RETINANET.*``).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from detectron2.config import CfgNode, get_cfg

from ..errors import SetupError

__all__ = ["LOAD_WORDS", "REMOVED_KEYS", "add_retina_config", "get_retina_cfg"]

# Words of MODEL.LOAD -> the former switch that each replaces. docs/training.md describes them.
LOAD_WORDS = {
    "by_class_name": "MODEL.MAP_CLASSES",  # take the class layer by class name; classes it lacks start with the prior
    "skip_mismatched": "MODEL.SKIP_MISMATCHED_WEIGHTS",  # start layers of another shape or other classes from scratch
    "ignore_manifest": "MODEL.IGNORE_MANIFEST",  # load weights for other anchors, classes or pixels (manifest.py)
    "partial": "TEST.ALLOW_PARTIAL_WEIGHTS",  # let --eval-only score a model with parameters that the weights lack
    "trust": "MODEL.TRUST_WEIGHTS",  # unpickle any object, which runs code in the file (read.py)
}


class RemovedKey(NamedTuple):
    """A key of an earlier version, accepted for one release with a note in the log."""

    default: Any  # its former default, which changes nothing and needs no note
    apply: Callable[[CfgNode, Any], str]  # sets the replacing key in a cfg, and returns the note


def _set_load_word(word: str) -> Callable[[CfgNode, bool], str]:
    def apply(cfg: CfgNode, value: bool) -> str:
        words = [other for other in cfg.MODEL.LOAD.split("+") if other not in ("strict", word)]
        cfg.MODEL.LOAD = "+".join(words + [word] * value) or "strict"
        return f"write MODEL.LOAD {word}"

    return apply


def _refuse_own_sets(cfg: CfgNode, sets: list) -> str:
    if sets:
        raise SetupError(
            "DATASETS.OWN was removed: list the paths in DATASETS.TRAIN_PATH and VAL_PATH, which take several, or "
            "register each set in Python with retina_plugin.register_boxes(name, path)"
        )
    return "it named no set"


# To remove a key, delete its default below and add it here:
#   "SOLVER.OLD": RemovedKey(0, lambda cfg, value: "it has no effect")        accept it with that note
#   "SOLVER.OLD": RemovedKey(0, f), where f sets cfg.SOLVER.NEW and returns "write SOLVER.NEW"
#   "SOLVER.OLD": RemovedKey(0, f), where f raises a SetupError for some values: the file and line are added
# `apply` gets the value in the type of the default, and the default too, where a file states it.
REMOVED_KEYS: dict[str, RemovedKey] = {
    **{switch: RemovedKey(False, _set_load_word(word)) for word, switch in LOAD_WORDS.items()},
    "DATASETS.OWN": RemovedKey([], _refuse_own_sets),
}


def add_retina_config(cfg: CfgNode) -> None:
    """Add the plugin's keys to ``cfg`` in place. Calling it again keeps what ``cfg`` already holds."""
    retinanet = cfg.MODEL.RETINANET
    if "CLS_LOSS_NAME" in retinanet:
        return

    # -- The classification loss and its variants.
    # A name in CLASSIFICATION_LOSS_REGISTRY: FocalLoss, CrossEntropyLoss, FocalLossStar, OHEMLoss or your own.
    # FOCAL_LOSS_ALPHA (weight of the foreground in [0, 1]; negative: no balancing) applies to each of them,
    # FOCAL_LOSS_GAMMA (focusing, >= 0) to FocalLoss. Source: paper Sec. 3.
    retinanet.CLS_LOSS_NAME = "FocalLoss"
    # FL* of paper appendix A: steepness (> 0) and shift of sigmoid(gamma * x_t + beta). Table 3 has (2, 1) and (4, 0).
    retinanet.FOCAL_STAR = CfgNode()
    retinanet.FOCAL_STAR.GAMMA = 2.0
    retinanet.FOCAL_STAR.BETA = 1.0
    # Online hard example mining, paper Sec. 5.1 and Table 1d. What the paper leaves open is in docs/deviations.md.
    retinanet.OHEM = CfgNode()
    # Examples (anchors) kept in a minibatch: 128, 256 or 512 in Table 1d.
    retinanet.OHEM.BATCH_SIZE = 128
    # IoU above which NMS drops the easier of two examples, in (0, 1]: 0.5 or 0.7 in Table 1d.
    retinanet.OHEM.NMS_THRESH = 0.5
    # Negatives per positive: 3.0 for the "OHEM 1:3" rows of Table 1d; 0.0 sets no ratio.
    retinanet.OHEM.NEG_POS_RATIO = 0.0
    # Loss that ranks the examples: "cls", or "total" for the sum with the box loss.
    retinanet.OHEM.SCORE = "cls"
    # Boxes that NMS compares: the "anchors", or the "decoded" ones that the model predicts.
    retinanet.OHEM.NMS_BOXES = "anchors"
    # BATCH_SIZE is per "image", or per "batch" for all images of this process together.
    retinanet.OHEM.SCOPE = "image"

    # -- The divisor of both losses.
    retinanet.NORMALIZER = CfgNode()
    # "ema": moving average of the positive anchors (Detectron2); "batch": positives of this batch (paper Sec. 4.1).
    retinanet.NORMALIZER.NAME = "ema"
    # Share of the old value kept per step, in [0, 1), and the value before the first step. Detectron2 retinanet.py.
    retinanet.NORMALIZER.MOMENTUM = 0.9
    retinanet.NORMALIZER.INITIAL = 100.0
    # Average the count over all workers, so that every image weighs the same. Detectron2 counts each worker alone.
    retinanet.NORMALIZER.SYNC = False

    # -- Anchors, their labels, and the initial bias of the class layer.
    # True makes the anchor that overlaps a ground-truth box most positive even below the upper IoU threshold, from
    # this IoU on, in [0, 1]: 0.0 in Detectron2 (IoU 0 never counts), 0.4 in the authors' code.
    retinanet.ALLOW_LOW_QUALITY_MATCHES = True
    retinanet.LOW_QUALITY_MIN_IOU = 0.0
    # False sets the class layer's bias to 0 in place of the prior PRIOR_PROB (paper Sec. 3.3 and 5.1).
    retinanet.USE_PRIOR = True
    # Side of the smallest anchor of a level in units of the level's stride: 4 gives 32 px on P3 (paper Sec. 4).
    cfg.MODEL.ANCHOR_GENERATOR.BASE_SIZE = 4.0
    # Sizes per level, 2^(j / n) apart: 3 in the paper, 1 to 4 in Table 1c.
    cfg.MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE = 3

    # -- Data sets by path ("" or () = not used): docs/own_data.md. They take the place of DATASETS.TRAIN and TEST.
    # COCO-format JSON and the folder of its images; registered as custom_train and custom_val, like the next ones.
    cfg.DATASETS.TRAIN_JSON = ""
    cfg.DATASETS.TRAIN_IMAGES = ""
    cfg.DATASETS.VAL_JSON = ""
    cfg.DATASETS.VAL_IMAGES = ""
    # A folder or file in any format: "coco", "voc", "yolo", "labelme", "csv", or "auto" to find out. *_IMAGES may be
    # empty. A set with its own split into training and validation keeps it. Several paths are one set.
    cfg.DATASETS.TRAIN_PATH = ()
    cfg.DATASETS.VAL_PATH = ()
    cfg.DATASETS.FORMAT = "auto"
    # Class names in their order, or one file of them; () takes those of the set, sorted by name if it has no order.
    cfg.DATASETS.CLASSES = ()
    # Share of TRAIN_PATH (or TRAIN_JSON) to validate on, in [0, 1), drawn by SPLIT_SEED. SPLIT_GROUP keeps images
    # together: those of one "folder", "column:NAME" (CSV) or "regex:PATTERN" (of the file name).
    cfg.DATASETS.VAL_FRACTION = 0.0
    cfg.DATASETS.SPLIT_SEED = 0
    cfg.DATASETS.SPLIT_GROUP = ""
    # True allows annotation files to name images outside the folder of the images: docs/security.md.
    cfg.DATASETS.ALLOW_OUTSIDE_PATHS = False

    # -- The one key of speed that changes figures; exact speed-ups are always on (docs/performance.md).
    # "fp32"; "winograd": fp32 with Winograd's algorithm for wide 3 x 3 convolutions on a CPU (other roundings, as cuDNN
    # may choose on a GPU); "bf16": backbone and head in bfloat16, on a CPU or GPU. For training and inference.
    cfg.MODEL.PRECISION = "fp32"

    # -- Optimizer, weights, and hooks of a training.
    # "SGD" (Detectron2, paper Sec. 4.1) or "AdamW", which needs fewer steps from random weights. BASE_LR, WEIGHT_DECAY
    # and the rest of SOLVER apply to both; MOMENTUM and NESTEROV to SGD alone.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Batch size for which BASE_LR, MAX_ITER, STEPS and the periods were written. Another IMS_PER_BATCH scales them as
    # Detectron2 does for REFERENCE_WORLD_SIZE (BASE_LR proportionally, iterations inversely). 0 = no scaling.
    cfg.SOLVER.REFERENCE_BATCH = 0
    # Forward and backward passes that make one iteration, each with its share of IMS_PER_BATCH.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Share of the averaged weights that a step keeps, in [0, 1): training/hooks/averaging.py. 0 = no average.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Number of the newest numbered checkpoints to keep in OUTPUT_DIR, besides the best and the final one. 0 = all.
    cfg.SOLVER.KEEP_CHECKPOINTS = 0
    # True takes PyTorch's deterministic algorithms. Not needed on a CPU with a fixed thread count.
    cfg.SOLVER.DETERMINISTIC = False
    # Evaluations in a row without a TEST.BEST_METRIC better by MIN_DELTA (in its unit) that end the run. 0 = never.
    cfg.SOLVER.EARLY_STOPPING = CfgNode()
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 0
    cfg.SOLVER.EARLY_STOPPING.MIN_DELTA = 0.0
    # A step whose loss is not finite, or that runs out of memory, ends the run ("stop") or is left out ("skip": ten in
    # a row end it all the same; for memory in one process only).
    cfg.SOLVER.FAULTS = CfgNode()
    cfg.SOLVER.FAULTS.NONFINITE_LOSS = "stop"
    cfg.SOLVER.FAULTS.OUT_OF_MEMORY = "stop"
    # Iterations between two computations of the losses on DATASETS.TEST: training/hooks/validation.py. 0 = never.
    cfg.TEST.LOSS_PERIOD = 0
    # Metric whose best checkpoint is kept as model_best.pth, such as "bbox/AP" or "validation/total_loss"; "" = none.
    cfg.TEST.BEST_METRIC = ""
    # How to load weights that do not fit: "strict" refuses them; or LOAD_WORDS, joined by "+".
    cfg.MODEL.LOAD = "strict"
    cfg.ANALYSIS = CfgNode()
    # Iterations between two writings, to the event storage (TensorBoard), of the share of the classification loss that
    # positives, negatives and the hardest of each carry in the batch: training/hooks/loss_shares.py. 0 = never.
    cfg.ANALYSIS.LOSS_CDF_PERIOD = 0

    for key in REMOVED_KEYS:  # Detectron2's own merging ignores them; load_config applies them
        cfg.register_deprecated_key(key)


def get_retina_cfg() -> CfgNode:
    """Return Detectron2's default config with the plugin's keys."""
    cfg = get_cfg()
    add_retina_config(cfg)
    return cfg
