"""``RetinaTrainer``: Detectron2's ``DefaultTrainer`` with the plugin's loader, checkpoints, evaluator and diagnosis."""

import logging
import os
import weakref
from collections.abc import Iterable
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import AMPTrainer, DefaultTrainer
from detectron2.engine.hooks import HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ..config.batch_scaling import scale_to_batch
from ..data.class_names import config_class_names
from ..data.mapper import RetinaDatasetMapper
from ..data.order import ORDERED_SAMPLERS, build_ordered_loader
from ..errors import RunFault
from ..evaluation.evaluator import build_evaluator, scoring_package
from ..modeling.execution import trains_channels_last
from ..modeling.trainer_keys import TRAINER_KEYS, claim_keys
from ..weights.checkpointer import build_checkpointer
from ..weights.files import FINAL, ResumePoint
from .accumulation import AccumulatingTrainer
from .build import build_hooks, build_optimizer
from .determinism import use_deterministic_algorithms
from .hooks.averaging import WeightAverage
from .hooks.early_stopping import EarlyStop
from .hooks.interruption import Interrupted
from .hooks.step_guard import StepGuard, describe_loss_of_worker
from .hooks.validation import PREFIX
from .hooks.wall_time import WallTimeHook
from .processes import gather_states
from .resume import PARAMETERS, follow_schedule, names_of_trained, resume_optimizer
from .terminal import describe_scores

__all__ = ["RetinaTrainer"]

logger = logging.getLogger(__name__)


class RetinaTrainer(DefaultTrainer):
    """Trains and evaluates a RetinaNet from a config.

    Differs from ``DefaultTrainer``: a checkpoint contains the loss normalizer; weights that do not fit are refused (see
    ``RetinaCheckpointer``); the error for an unreadable image names its file; a loss that is not finite stops the run
    before the weights change, and the message names the loss and the images.
    """

    scored_by: dict[str, str] = {}  # data set -> package that scored it, in the last evaluation of this process

    def __init__(self, cfg: CfgNode):
        type(self).scored_by = {}
        self.stopped_early = ""  # reason for a stop before MAX_ITER
        if cfg.SOLVER.DETERMINISTIC:
            use_deterministic_algorithms()
        super().__init__(scale_to_batch(cfg))
        if self.cfg.SOLVER.ACCUMULATION_STEPS > 1:
            whole = self._trainer
            self._trainer = AccumulatingTrainer(
                whole.model,
                whole.data_loader,
                whole.optimizer,
                num_parts=self.cfg.SOLVER.ACCUMULATION_STEPS,
                amp=self.cfg.SOLVER.AMP.ENABLED,
            )

    def build_hooks(self) -> list[HookBase | None]:
        # Replaces DefaultTrainer's checkpointer here, since super().build_hooks() puts it into hooks.
        order = getattr(self.data_loader, "order", None)
        self.checkpointer = build_checkpointer(
            self.cfg,
            getattr(self.model, "module", self.model),  # under DistributedDataParallel
            self.cfg.OUTPUT_DIR,
            classes=config_class_names(self.cfg),
            trainer=weakref.proxy(self),
            **({"train_order": order} if order else {}),
        )
        return build_hooks(self.cfg, self, super().build_hooks())

    def _hook(self, kind: type[HookBase]) -> HookBase | None:
        return next((hook for hook in self._hooks if isinstance(hook, kind)), None)

    @property
    def evaluated_model(self) -> torch.nn.Module:
        """The model that evaluations use: with SOLVER.EMA_DECAY the averaged weights."""
        average = self._hook(WeightAverage)
        return average.model if average else self.model

    def train(self) -> dict | None:
        """Train as Detectron2 does; after an early stop or an interruption ``iter`` counts the finished iterations."""
        try:
            return super().train()
        except EarlyStop as stop:
            self.iter, self.stopped_early = stop.num_done, str(stop)
            logger.info("%s", stop)
            return self.last_results
        except Interrupted as stop:
            self.iter = stop.num_done
            raise
        except RuntimeError as error:
            # PyTorch raises the error wherever this process is when a worker ends, possibly in a hook or a writer.
            if said := describe_loss_of_worker(error):
                raise RunFault(self._hook(StepGuard).describe_lost_worker(said)) from None
            raise

    def after_train(self) -> None:
        self.iter = min(self.iter, self.max_iter)  # Detectron2 counts one more after a loop that had nothing to do
        super().after_train()

    def resume_or_load(self, resume: bool | ResumePoint = True) -> None:
        """Resume or load as Detectron2 does; a resumed run continues with the next batch.

        Args:
            resume: True, False, or a ``ResumePoint`` that was found earlier, to read its checkpoint only once.
        """
        if resume and not self.checkpointer.has_checkpoint():
            logger.info("%s has no checkpoint to resume from: the run begins", self.cfg.OUTPUT_DIR)
        super().resume_or_load(resume)
        if 0 < self.start_iter < self.max_iter:
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            logger.info("going on at iteration %d of %d, learning rate %g", self.start_iter, self.max_iter, rate)
        if order := getattr(self.data_loader, "order", None):
            for note in order.resume(self.start_iter):
                logger.warning("--resume with %s", note)
        if self.start_iter == self.max_iter and Path(self.checkpointer.get_checkpoint_file()).name != FINAL:
            # The run was stopped after the numbered checkpoint of its last iteration and before the final one.
            gather_states(self)
            self.checkpointer.save(Path(FINAL).stem, iteration=self.iter)

    def state_dict(self) -> dict:
        """Return Detectron2's state, and the names of the trained parameters."""
        return {**super().state_dict(), PARAMETERS: names_of_trained(self.model, self.optimizer)}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load a state; rates, decays, momentum and schedule are those of the config, not those of the checkpoint."""
        inner = dict(state_dict["_trainer"])
        if isinstance(self._trainer, AMPTrainer):  # a run without AMP or accumulation has no scaler, and may add it
            inner.setdefault("grad_scaler", self._trainer.grad_scaler.state_dict())
        if isinstance(self.scheduler, LRMultiplier):
            names, before = names_of_trained(self.model, self.optimizer), state_dict.get(PARAMETERS)
            inner["optimizer"] = resume_optimizer(inner["optimizer"], self.optimizer, names, before)
        super().load_state_dict({**state_dict, "_trainer": inner})
        if isinstance(self.scheduler, LRMultiplier):
            follow_schedule(self.scheduler, self.optimizer)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        model = super().build_model(cfg)
        claim_keys(model, *TRAINER_KEYS)
        if trains_channels_last(cfg.MODEL.DEVICE, cfg.MODEL.PRECISION):
            model = model.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[list[dict]]:
        """Build a loader that a resumed run can continue (its ``order`` is a TrainOrder), or else Detectron2's."""
        mapper = RetinaDatasetMapper(cfg, is_train=True)
        if cfg.DATALOADER.SAMPLER_TRAIN not in ORDERED_SAMPLERS:
            return build_detection_train_loader(cfg, mapper=mapper)
        loader, order = build_ordered_loader(cfg, mapper)
        loader.order = order
        return loader

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        return build_detection_test_loader(cfg, dataset_name, mapper=RetinaDatasetMapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name))

    @classmethod
    def test(
        cls, cfg: CfgNode, model: torch.nn.Module, evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None
    ) -> dict:
        """Evaluate as Detectron2 does, and record the package that scored each data set."""
        names = cfg.DATASETS.TEST
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in names]
        elif isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            for name, scores in (results if len(names) > 1 else dict.fromkeys(names, results)).items():
                for line in describe_scores(scores):
                    logger.info("%s: %s", name, line)
        # After the evaluation, in which an evaluator may have fallen back to another package.
        cls.scored_by = {name: scoring_package(one) for name, one in zip(names, evaluators, strict=True)}
        return results

    @property
    def last_results(self) -> dict | None:
        """Metrics of the last evaluation, None before the first."""
        return getattr(self, "_last_eval_results", None)

    @property
    def earlier_seconds(self) -> float:
        """Duration of the earlier parts of a resumed run; 0 in a run that begins."""
        return self._hook(WallTimeHook).earlier_seconds

    @property
    def last_losses(self) -> dict[str, float]:
        """The losses of the last iteration; {} before the first."""
        latest = self.storage.latest() if hasattr(self, "storage") else {}
        return {name: value for name, (value, _) in latest.items() if "loss" in name and not name.startswith(PREFIX)}

    def build_writers(self) -> list[EventWriter]:
        """Build Detectron2's writers; one that fails stops writing, and the training continues."""
        return [TolerantWriter(writer) for writer in super().build_writers()]

    @property
    def num_skipped(self) -> int:
        """Steps left out by SOLVER.FAULTS."""
        return self._hook(StepGuard).num_skipped


class TolerantWriter(EventWriter):
    """Forward calls to a writer until it raises an OSError (no space, no permission, a lost network share).

    Then log one warning, and do not call the writer again.
    """

    def __init__(self, writer: EventWriter):
        self._writer: EventWriter | None = writer

    def write(self) -> None:
        self._try("write")

    def close(self) -> None:
        self._try("close")

    def _try(self, method: str) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)()
        except OSError as error:
            logger.warning("%s cannot write (%s): the training goes on without it", type(self._writer).__name__, error)
            self._writer = None
