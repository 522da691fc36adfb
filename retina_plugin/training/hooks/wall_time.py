"""Count the seconds of a training over all its resumes."""

import time

from detectron2.engine import HookBase

__all__ = ["WallTimeHook"]


class WallTimeHook(HookBase):
    """Save in every checkpoint the training time that led to it, so that it survives even a killed process.

    ``earlier_seconds``: duration of the earlier parts of a resumed run, each up to the checkpoint that was resumed.
    """

    def __init__(self):
        self.earlier_seconds = 0.0
        self._start = time.monotonic()

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.earlier_seconds + time.monotonic() - self._start}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.earlier_seconds = state["seconds"]
