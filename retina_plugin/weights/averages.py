"""Averaged weights (EMA) inside a checkpoint."""

from torch import Tensor

__all__ = ["AVERAGE_KEY", "averaged_state"]

# Of the average in a checkpoint.
AVERAGE_KEY = "model_ema"
# Of AveragedModel's state dict: the prefix of the model's keys, and its own counter.
_PREFIX, _COUNTER = "module.", "n_averaged"


def averaged_state(average: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averaged weights under the model's own keys, from what a checkpoint has under AVERAGE_KEY."""
    return {key.removeprefix(_PREFIX): value for key, value in average.items() if key != _COUNTER}
