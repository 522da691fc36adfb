"""``RetinaTrainer``: Detectron2's ``DefaultTrainer`` with the plugin's loader, checkpoints, evaluator and diagnosis."""

import logging
import os
import weakref
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer
from detectron2.engine.hooks import HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

from ..config.batch_scaling import scale_to_batch
from ..data.mapper import RetinaDatasetMapper
from ..data.order import ORDERED_SAMPLERS, TrainOrder, build_ordered_loader
from ..errors import RunFault, SetupError
from ..evaluation.evaluator import build_evaluator, scoring_package
from ..modeling import TrainingState
from ..modeling.precision import trains_channels_last
from ..weights.averages import AVERAGE_KEY
from ..weights.checkpointer import build_checkpointer
from ..weights.files import FINAL
from .accumulation import AccumulatingTrainer
from .determinism import use_deterministic_algorithms
from .hook_order import assemble_hooks
from .hooks.averaging import WeightAverage
from .hooks.best_checkpoint import EarlyStop
from .hooks.interruption import Interrupted, InterruptionHook
from .hooks.loss_shares import WallTimeHook
from .hooks.step_guard import StepGuard
from .hooks.validation import PREFIX
from .machine_faults import describe_loss_of_worker
from .tolerant_writer import TolerantWriter

__all__ = ["RetinaTrainer"]

logger = logging.getLogger(__name__)
# Detectron2 logs the traceback of whatever ends its loop: of no use with a sentence on what to mend.
logging.getLogger("detectron2.engine.train_loop").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], SetupError))
)


class RetinaTrainer(DefaultTrainer):
    """Trains and evaluates a RetinaNet from a config.

    Differs from ``DefaultTrainer``: a checkpoint carries the loss normalizer; loading reports and refuses (see
    ``RetinaCheckpointer``); an unreadable image is named; a loss that is not finite stops the run before the step
    that would spoil the weights, naming its parts and images.
    """

    scored_by: dict[str, str] = {}  # data set -> package that scored it, in the last evaluation of this process

    def __init__(self, cfg: CfgNode):
        type(self).scored_by = {}
        self.stopped_early = ""  # why, if it was before MAX_ITER
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
        model = getattr(self.model, "module", self.model)  # under DistributedDataParallel
        decay = self.cfg.SOLVER.EMA_DECAY
        self._average = WeightAverage(model, decay) if decay > 0 else None
        self._state = TrainingState(model)
        # DefaultTrainer makes its checkpointer just before it asks for the hooks that hold it.
        self.checkpointer = build_checkpointer(
            self.cfg,
            model,
            self.cfg.OUTPUT_DIR,
            trainer=weakref.proxy(self),
            training_state=self._state,
            **({"train_order": self.data_loader.order} if self.data_loader.order else {}),
            **({AVERAGE_KEY: self._average.checkpointable} if self._average else {}),
        )
        self._wall_time = WallTimeHook()
        self._interruption = InterruptionHook()
        self._guard = StepGuard(self.cfg)
        return assemble_hooks(
            self.cfg,
            [self._wall_time, self._guard, *super().build_hooks()],
            state=self._state,
            average=self._average,
            evaluated=self.evaluated_model,
            evaluate=self._evaluate,
            interruption=self._interruption,
        )

    @property
    def evaluated_model(self) -> torch.nn.Module:
        """What evaluations look at: the averaged weights where there are any."""
        return self._average.model if self._average else self.model

    def _evaluate(self) -> dict:
        self._last_eval_results = self.test(self.cfg, self.evaluated_model)
        return self._last_eval_results

    def train(self) -> dict | None:
        """As Detectron2's; a run that stops early or is interrupted has counted the iterations that it did."""
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
            # PyTorch raises it wherever this process is when it hears of a worker's end: in a hook or a writer too.
            if said := describe_loss_of_worker(error):
                raise RunFault(self._guard.describe_lost_worker(said)) from None
            raise

    def resume_or_load(self, resume: bool = True) -> None:
        """As Detectron2's; a resumed run goes on with the batch that came next."""
        if resume and not self.checkpointer.has_checkpoint():
            logger.info("%s has no checkpoint to resume from: the run begins", self.cfg.OUTPUT_DIR)
        super().resume_or_load(resume)
        if self.start_iter > 0:
            rate = self.optimizer.param_groups[0]["lr"]
            logger.info("going on at iteration %d of %d, learning rate %g", self.start_iter, self.max_iter, rate)
        if self.data_loader.order:
            for note in self.data_loader.order.resume(self.start_iter):
                logger.warning("--resume with %s", note)
        if self.start_iter == self.max_iter and Path(self.checkpointer.get_checkpoint_file()).name != FINAL:
            # Stopped between the numbered checkpoint of the last iteration and this one.
            self.gather_state()
            self.checkpointer.save(Path(FINAL).stem, iteration=self.iter)

    def gather_state(self) -> None:
        """Of several processes, before the main one saves a checkpoint: to be called in each."""
        if comm.get_world_size() > 1:
            self._state.gather()

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        model = super().build_model(cfg)
        if trains_channels_last(cfg.MODEL.DEVICE, cfg.MODEL.PRECISION):
            model = model.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        solver = cfg.SOLVER
        parameters = get_default_optimizer_params(
            model,
            base_lr=solver.BASE_LR,
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        )
        adamw = torch.optim.AdamW(parameters, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
        return maybe_add_gradient_clipping(cfg, adamw)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> "LastBatchLoader":
        mapper = RetinaDatasetMapper(cfg, is_train=True)
        if cfg.DATALOADER.SAMPLER_TRAIN not in ORDERED_SAMPLERS:
            return LastBatchLoader(build_detection_train_loader(cfg, mapper=mapper))
        loader, order = build_ordered_loader(cfg, mapper)
        return LastBatchLoader(loader, order=order)

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
        """As Detectron2's, noting what scored each data set."""
        names = cfg.DATASETS.TEST
        if evaluators is None:
            evaluators = [cls.build_evaluator(cfg, name) for name in names]
        elif isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        results = super().test(cfg, model, evaluators)
        # Only now: an evaluator may have had to turn to another package.
        cls.scored_by = {name: scoring_package(one) for name, one in zip(names, evaluators, strict=True)}
        return results

    @property
    def last_results(self) -> dict | None:
        """Metrics of the last evaluation, None before the first."""
        return getattr(self, "_last_eval_results", None)

    @property
    def earlier_seconds(self) -> float:
        """Of the parts of a resumed run before this one; 0 in a run that begins."""
        return self._wall_time.earlier_seconds

    @property
    def last_losses(self) -> dict[str, float]:
        """The losses of the last iteration; {} before the first."""
        latest = self.storage.latest() if hasattr(self, "storage") else {}
        return {name: value for name, (value, _) in latest.items() if "loss" in name and not name.startswith(PREFIX)}

    def run_step(self) -> None:
        """One iteration, or none where SOLVER.FAULTS skips it.

        Raises:
            FloatingPointError: a loss is not finite; raised before the weights are changed.
            RunFault: memory ran out, or a process that reads images was ended.
        """
        try:
            with self._guard:
                super().run_step()
        except RuntimeError as error:
            self._interruption.lost_worker(error)
            raise

    def build_writers(self) -> list[EventWriter]:
        """Detectron2's; one that fails stops writing, not the training."""
        return [TolerantWriter(writer) for writer in super().build_writers()]

    @property
    def num_skipped(self) -> int:
        """Steps left out by SOLVER.FAULTS."""
        return self._guard.num_skipped


class LastBatchLoader:
    """A data loader that remembers the batch it gave last, so that a failing step can name its images.

    ``order`` is where its images come from, None with a sampler of Detectron2's that has no place to start from.
    """

    def __init__(self, loader, order: TrainOrder | None = None):
        self._loader = loader
        self.order = order
        self.batch: list[dict] = []

    def __iter__(self):
        for batch in self._loader:
            self.batch = batch
            yield batch
