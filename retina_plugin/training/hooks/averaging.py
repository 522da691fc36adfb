"""A moving average of the trained weights (EMA), which is evaluated and saved in checkpoints."""

from detectron2.engine import HookBase
from fvcore.common.checkpoint import Checkpointer
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...weights.checkpointer import AVERAGE_KEY

__all__ = ["WeightAverage"]


class WeightAverage(HookBase):
    """After each step: average = decay * average + (1 - decay) * weights.

    The average begins as the weights after the first step. Parameters are averaged; buffers (statistics of batch
    norms, the divisor's average) are those of the trained model. By torch's ``AveragedModel``, which works on all
    parameters at once. A hook of any ``DefaultTrainer``, before those that save and evaluate: evaluate ``model``.
    """

    def __init__(self, model: nn.Module, decay: float, checkpointer: Checkpointer | None = None):
        """
        Args:
            model: the trained model, without DistributedDataParallel: its replicas have the same weights.
            decay: share of the average that a step keeps, in (0, 1) (SOLVER.EMA_DECAY).
            checkpointer: saves and resumes the average under AVERAGE_KEY; None keeps it in memory.
        """
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        if checkpointer:
            checkpointer.add_checkpointable(AVERAGE_KEY, self._average)

    @property
    def model(self) -> nn.Module:
        """A detector with the averaged weights."""
        return self._average.module

    def before_train(self) -> None:
        if self._average.n_averaged == 0:  # built before the weights were loaded, and not resumed
            self._average.module.load_state_dict(self._model.state_dict())

    def after_step(self) -> None:
        self._average.update_parameters(self._model)
