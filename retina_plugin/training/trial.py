"""Build and run the parts of a training on trial, to find values that Detectron2 refuses before a file is written.

``config/rules.py`` has the values of single keys that are known to fail. Others fail here, in one
sentence, and not at the start or at the very end of a training. A training and ``retina doctor`` run the same trials.
"""

import io
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data import transforms as T
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator, LVISEvaluator
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.modeling import META_ARCH_REGISTRY, build_anchor_generator
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.solver import build_lr_scheduler
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import nn

from ..config.load import with_values
from ..data.mapper import RetinaDatasetMapper
from ..data.order import ORDERED_SAMPLERS
from ..errors import SetupError, first_line, name_some
from ..evaluation.coco_evaluator import BoxEvaluator
from ..evaluation.evaluator import build_evaluator
from ..findings import Finding, finding
from .build import build_optimizer

__all__ = ["build_on_trial", "build_without_weights", "find_trial_faults", "silence"]

EVALUATOR_REMEDIES = {
    "pascal_voc": "Detectron2's evaluator of Pascal VOC needs <pose>, <truncated>, <difficult> and whole numbers in "
    'every <object>. Without its evaluator_type "pascal_voc" the set is scored in COCO\'s way; so it is by '
    "DATASETS.VAL_PATH.",
    "lvis": "pip install lvis, or leave out the set's evaluator_type to score it in COCO's way.",
}
# An image of a common size (COCO's), on which the augmentation is tried.
TRIAL_IMAGE = (480, 640, 3)


def find_trial_faults(cfg: CfgNode, *, only_evaluation: bool = False) -> Iterator[Finding]:
    """Try the parts of a training; a finding for each that fails. The data sets must be registered and checked.

    With several processes call it in each: evaluators exchange what they have.
    """
    trials = {"MODEL": build_on_trial, "INPUT": _augment, "DATALOADER": _build_loader, "TEST": _evaluate}
    for group, attempt in trials.items():
        if only_evaluation and group != "TEST":
            continue
        try:
            attempt(cfg)
        except SetupError as error:
            yield finding("config-value", group, str(error))


def build_on_trial(cfg: CfgNode) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Build the model, its optimizer and its schedule; those of a RetinaNet take no memory (torch's "meta" device).

    Raises:
        SetupError: a part cannot be built; the message names it and its keys.
    """
    cfg = with_values(DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size()), {"MODEL.DEVICE": "cpu"})
    with _part("model", "MODEL"):
        model = build_without_weights(cfg)
    with _part("optimizer", "SOLVER"):
        optimizer = build_optimizer(cfg, model)
    with _part("schedule", "SOLVER"), silence():
        schedule = build_lr_scheduler(cfg, optimizer)
        last = cfg.SOLVER.MAX_ITER - 1
        for iteration in {0, last // 2, min(cfg.SOLVER.WARMUP_ITERS, last), last}:
            rate = schedule._multiplier(iteration / cfg.SOLVER.MAX_ITER)
            if not 0 <= rate < math.inf:
                raise ValueError(f"the rate is {rate} times BASE_LR at iteration {iteration}")
    return model, optimizer


def build_without_weights(cfg: CfgNode) -> nn.Module:
    """Build a RetinaNet without memory for its weights (torch's "meta" device); other models as they are.

    Its anchor generator and matcher work; the network cannot run.
    """
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    # Some parts of other detectors compute with values while they are built, and "meta" tensors have none.
    if not (isinstance(architecture, type) and issubclass(architecture, RetinaNet)):
        return architecture(cfg)
    with torch.device("meta"):
        model = architecture(cfg)
    shapes = [model.backbone.output_shape()[name] for name in model.head_in_features]
    model.anchor_generator = build_anchor_generator(cfg, shapes)
    return model


@contextmanager
def _part(name: str, keys: str, remedy: str = "") -> Iterator[None]:
    """Turn any error but a SetupError into one that names the part and the group of its keys."""
    try:
        yield
    except SetupError:
        raise
    except Exception as error:  # the parts of Detectron2 raise errors of any type on values that do not fit together
        cause = f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
        remedy = remedy or f"Change the key of {keys} that asks for it."
        raise SetupError(f"{keys}: the {name} cannot be built: {cause}. {remedy}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Hide the lines and logs of a trial, which the real work repeats."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _augment(cfg: CfgNode) -> None:
    with _part("augmentation", "INPUT"), silence():
        for is_train in (True, False):
            augmentations = RetinaDatasetMapper.from_config(cfg, is_train)["augmentations"]
            T.AugmentationList(augmentations)(T.AugInput(np.zeros(TRIAL_IMAGE, dtype=np.uint8)))


def _build_loader(cfg: CfgNode) -> None:
    """Build the loader of a sampler that only Detectron2 can build; the data checks cover the others."""
    if cfg.DATALOADER.SAMPLER_TRAIN not in ORDERED_SAMPLERS:
        with _part("train loader", "DATALOADER"), silence():
            build_detection_train_loader(cfg, mapper=RetinaDatasetMapper(cfg, is_train=True))


def _evaluate(cfg: CfgNode) -> None:
    """Score one detection on each of the first two images of every test set, and look for the metrics asked for.

    Raises:
        SetupError: an evaluator fails, or does not measure TEST.BEST_METRIC or TEST.EXPECTED_RESULTS.
    """
    results = {}
    for name in cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(name)
        had_json = hasattr(metadata, "json_file")
        remedy = EVALUATOR_REMEDIES.get(metadata.get("evaluator_type", ""), "Give the set another evaluator_type.")
        try:
            with tempfile.TemporaryDirectory(prefix="retina_trial_") as folder, _part("evaluator", name, remedy):
                with silence():
                    evaluator = build_evaluator(cfg, name, folder)
                    results[name] = _score_two_images(evaluator, DatasetCatalog.get(name)[:2])
        finally:
            if not had_json and hasattr(metadata, "json_file"):  # a conversion in the folder, which is gone
                del metadata.json_file
    if not comm.is_main_process() or not results or not all(results.values()):
        return
    measured = flatten_results_dict(results if len(results) > 1 else next(iter(results.values())))
    best = cfg.TEST.BEST_METRIC
    if best and not best.startswith("validation/") and best not in measured:
        raise SetupError(f"TEST.BEST_METRIC must be a metric of these test sets, got {best}: {_some(measured)}.")
    for task, metric, *_ in cfg.TEST.EXPECTED_RESULTS:
        if f"{task}/{metric}" not in measured:
            raise SetupError(
                f"TEST.EXPECTED_RESULTS must name metrics of the test set, got {task} {metric}: {_some(measured)}."
            )


def _score_two_images(evaluator: DatasetEvaluator, records: list[dict]) -> dict:
    """Return the results of one detection on each image; {} if nothing was scored."""
    evaluator.reset()
    for record in records:
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, record["width"], record["height"]]]))
        found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([0])
        evaluator.process([record], [{"instances": found}])
    if not records or isinstance(evaluator, LVISEvaluator):  # it always scores the whole set, which takes minutes
        return {}
    by_image = isinstance(evaluator, BoxEvaluator)
    return evaluator.evaluate(*[[record["image_id"] for record in records]] if by_image else []) or {}


def _some(measured: Iterable[str]) -> str:
    return f"there are {name_some(sorted(measured), 12)}"
