"""Loading weights: what was found, what was loaded, and a clear refusal where it does not fit."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from ..errors import SetupError

__all__ = ["LoadReport", "RetinaCheckpointer", "check_weights"]

logger = logging.getLogger(__name__)

# Keys or layers named in a message before "and N more".
MAX_NAMED = 5


@dataclass(frozen=True)
class LoadReport:
    """How much of a model came from a checkpoint."""

    path: str
    num_values: int  # numbers in the model's state dict
    num_loaded: int  # of these, numbers that the checkpoint gave
    missing: tuple[str, ...]  # keys of the model that it did not give

    def __str__(self) -> str:
        share = 100 * self.num_loaded / max(self.num_values, 1)
        text = f"{share:.1f} % of the model ({self.num_loaded:,} of {self.num_values:,} values) loaded from {self.path}"
        return f"{text}; not in it: {_named(self.missing)}" if self.missing else text


class RetinaCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer that reports what it loaded and refuses layers of another shape unless asked."""

    def __init__(self, model, save_dir: str = "", *, skip_mismatched: bool = False, **checkpointables):
        """
        Args:
            skip_mismatched: load a checkpoint without the layers whose shapes differ (MODEL.SKIP_MISMATCHED_WEIGHTS).
            model, save_dir, checkpointables: as for ``DetectionCheckpointer``.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.skip_mismatched = skip_mismatched
        self.report: LoadReport | None = None
        self._path = ""

    def load(self, path: str, *args, **kwargs):
        """Detectron2's ``load``; ``report`` then says what was loaded (None for an empty path).

        Raises:
            SetupError: the file cannot be read as a checkpoint, or a layer has another shape.
        """
        self.report = None
        self._path = path
        try:
            extra = super().load(path, *args, **kwargs)
        except SetupError:
            raise
        except Exception as error:  # unpickling a file that is none raises whatever its bytes ask for
            raise SetupError(
                f"{path} cannot be read as a checkpoint ({_first_line(error)}). "
                "Give a .pth or .pkl file of Detectron2 or of this plugin."
            ) from error
        if self.report is not None:
            logger.info("%s", self.report)
        return extra

    def _load_model(self, checkpoint):
        incompatible = super()._load_model(checkpoint)
        mismatched = [key for key, _, _ in incompatible.incorrect_shapes]
        if mismatched and not self.skip_mismatched:
            key, found, expected = incompatible.incorrect_shapes[0]
            raise SetupError(
                f"{self._path}: {key} has shape {tuple(found)}, the config asks for {tuple(expected)} "
                f"({len(mismatched)} such: {_named(mismatched)}).\n"
                "Set NUM_CLASSES and the anchors as in the checkpoint, or MODEL.SKIP_MISMATCHED_WEIGHTS True to start "
                "those layers afresh."
            )
        # A counter that no output depends on; converted checkpoints lack it.
        state = {k: v for k, v in self.model.state_dict().items() if not k.endswith("num_batches_tracked")}
        absent = {*incompatible.missing_keys, *mismatched}
        missing = tuple(key for key in state if key in absent)
        num_values = sum(value.numel() for value in state.values())
        num_missing = sum(state[key].numel() for key in missing)
        self.report = LoadReport(self._path, num_values, num_values - num_missing, missing)
        return incompatible


def check_weights(cfg: CfgNode, *, resume: bool) -> None:
    """Make sure that the weights a run starts from can be had, before anything is built.

    Raises:
        SetupError: the last checkpoint is not there; or ``MODEL.WEIGHTS`` names a file that is not there or an
            address that cannot be fetched.
    """
    last = Path(cfg.OUTPUT_DIR, "last_checkpoint")
    if resume and last.is_file():
        checkpoint = last.with_name(last.read_text(encoding="utf-8").strip())
        if not checkpoint.is_file():
            raise SetupError(
                f"--resume: {last} names {checkpoint.name}, which is not there. "
                "Write the name of a checkpoint of this folder into it."
            )
        return
    path = cfg.MODEL.WEIGHTS
    if not path:
        return
    address = urlparse(path)._replace(query="").geturl()
    try:
        local = PathManager.get_local_path(address)
    except Exception as error:  # iopath lets through whatever its handlers raise
        raise SetupError(
            f"MODEL.WEIGHTS {path} could not be fetched ({_first_line(error)}).\n"
            "Download it elsewhere and give its path, or train from scratch: this config's own keys on top of "
            "configs/Base-Retina-Scratch.yaml or configs/retina_R18_FPN_scratch.yaml."
        ) from error
    if not os.path.isfile(local):
        raise SetupError(f"MODEL.WEIGHTS {path} is not a file. Give the path of a .pth or .pkl checkpoint.")
    if os.path.getsize(local) == 0:
        raise SetupError(f"MODEL.WEIGHTS {path} is empty. Copy or download it again.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _named(keys: Iterable[str]) -> str:
    keys = list(keys)
    more = f" and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else ""
    return ", ".join(keys[:MAX_NAMED]) + more
