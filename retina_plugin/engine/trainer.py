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

from ..data.mapper import RetinaDatasetMapper
from ..data.train_order import ORDERED_SAMPLERS, TrainOrder, build_ordered_loader
from ..errors import SetupError
from ..modeling import TrainingState
from ..modeling.precision import trains_channels_last
from .accumulation import AccumulatingTrainer
from .averaging import AVERAGE_KEY, WeightAverage
from .batch_scaling import scale_to_batch
from .best_checkpoint import EarlyStop
from .checkpoint import build_checkpointer
from .checkpoint_files import FINAL
from .determinism import use_deterministic_algorithms
from .evaluation import build_evaluator, scoring_package
from .hooks import WallTimeHook
from .interruption import Interrupted, InterruptionHook
from .training_hooks import assemble_hooks
from .validation import PREFIX

__all__ = ["RetinaTrainer"]

logger = logging.getLogger(__name__)
# Detectron2 logs the traceback of whatever ends its loop: of no use with a sentence on what to mend.
logging.getLogger("detectron2.engine.train_loop").addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], SetupError))
)

# Files of a batch named in a message.
MAX_NAMED = 8


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
            of_batch = self._trainer
            self._trainer = AccumulatingTrainer(
                of_batch.model,
                of_batch.data_loader,
                of_batch.optimizer,
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
        return assemble_hooks(
            self.cfg,
            [self._wall_time, *super().build_hooks()],
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
        """One iteration.

        Raises:
            FloatingPointError: a loss is not finite; raised before the weights are changed.
        """
        try:
            super().run_step()
        except FloatingPointError as error:
            raise FloatingPointError(self._describe_divergence(str(error))) from None
        except RuntimeError as error:
            self._interruption.lost_worker(error)
            raise

    def _describe_divergence(self, found: str) -> str:
        """One line on what is not finite, where, and what helps; ``found`` is what Detectron2 says."""
        batch = self.data_loader.batch
        if comm.get_world_size() > 1:
            # The others wait in their next step: a forward pass of this one would meet their all-reduces.
            files = ", ".join(image["file_name"] for image in batch[:MAX_NAMED])
            return f"{' '.join(found.split())} {self._last_checkpoint()} This process had {files}."
        bad_losses = self._bad_losses_per_image(batch)
        parts = {name for names in bad_losses for name in names}
        guilty = [image["file_name"] for image, names in zip(batch, bad_losses, strict=True) if names]
        where = f"iteration {self.iter}: {', '.join(sorted(parts)) or 'the loss'} is not finite"
        kept = self._last_checkpoint()
        if len(guilty) == len(batch):
            return (
                f"{where} for every image of the batch: the weights have diverged. "
                f"Lower SOLVER.BASE_LR (now {self.cfg.SOLVER.BASE_LR}), lengthen SOLVER.WARMUP_ITERS, "
                f"or check the normalisation layers. {kept}"
            )
        if not guilty:
            return f"{where} for the batch, but for none of its images alone. {kept}"
        return f"{where} for {', '.join(guilty[:MAX_NAMED])}. Check these images and their boxes. {kept}"

    def _last_checkpoint(self) -> str:
        last = self.checkpointer.get_checkpoint_file() if self.checkpointer.has_checkpoint() else ""
        return f"The last checkpoint is {last}." if last else "No checkpoint was written yet."

    @torch.no_grad()
    def _bad_losses_per_image(self, batch: list[dict]) -> list[list[str]]:
        """For each image alone, the names of its losses that are not finite."""
        model = getattr(self.model, "module", self.model)  # under DistributedDataParallel
        with torch.autocast("cuda", enabled=self.cfg.SOLVER.AMP.ENABLED):
            return [[name for name, loss in model([image]).items() if not torch.isfinite(loss)] for image in batch]


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
