"""Load weights in five steps: read the file, convert it, compare its manifest, map its classes, load it."""

import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from ..errors import SetupError, first_line, name_some
from .classes import CLASS_LAYER, fit_class_layer
from .files import ResumePoint, find_resume_point, name_last, prune, resume_candidates, write_checkpoint
from .manifest import build_manifest, disagreements, manifest_fault
from .read import DamagedFile, read_weights
from .torchvision import convert_torchvision, is_torchvision

__all__ = [
    "AVERAGE_KEY", "LoadReport", "RetinaCheckpointer", "build_checkpointer", "check_weights", "loading_rules",
    "read_checkpoint",
]  # fmt: skip

logger = logging.getLogger(__name__)

# Averaged weights (EMA) in a checkpoint: a state dict of torch's AveragedModel.
AVERAGE_KEY = "model_ema"


@dataclass(frozen=True)
class LoadReport:
    """The share of a model that came from a checkpoint."""

    path: str
    num_values: int  # numbers in the model's state dict
    num_loaded: int  # of these, numbers taken from the checkpoint
    missing: tuple[str, ...]  # the model's keys that the checkpoint lacks

    def __str__(self) -> str:
        share = 100 * self.num_loaded / max(self.num_values, 1)
        text = f"{share:.1f} % of the model ({self.num_loaded:,} of {self.num_values:,} values) loaded from {self.path}"
        return f"{text}; not in it: {name_some(self.missing)}" if self.missing else text


class RetinaCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with a manifest and a report of each load; it refuses weights that do not fit."""

    def __init__(
        self, model, save_dir: str = "", *, manifest: dict | None = None, rules: Collection[str] = (),
        tag_last: bool = True, keep: int = 0, **checkpointables,
    ):  # fmt: skip
        """
        Args:
            manifest: manifest of the config (``build_manifest``), saved in every checkpoint and compared with that of
                a checkpoint on loading; None skips both.
            rules: words of MODEL.LOAD, which say how to load weights that do not fit (docs/training.md).
            tag_last: name each saved checkpoint in ``last_checkpoint``, so that --resume starts from it.
            keep: number of numbered checkpoints to keep in the folder; 0 keeps all (SOLVER.KEEP_CHECKPOINTS).
            model, save_dir, checkpointables: as for ``DetectionCheckpointer``.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.manifest = manifest
        self.rules = frozenset(rules)
        self.tag_last = tag_last
        self.keep = keep
        self.report: LoadReport | None = None  # of the most recent load

    def save(self, name: str, **extra) -> None:
        """Save as Detectron2 does, plus the manifest; the file is on disk before ``last_checkpoint`` names it.

        Raises:
            SetupError: the file cannot be written; earlier checkpoints are kept.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        content |= {"manifest": self.manifest} if self.manifest else {}
        path = Path(self.save_dir, f"{name}.pth")
        logger.info("Saving checkpoint to %s", path)
        write_checkpoint(path, content | extra)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        if self.tag_last:
            name_last(Path(self.save_dir), last_filename_basename)
            prune(Path(self.save_dir), self.keep, Path(self.save_dir, last_filename_basename))

    def has_checkpoint(self) -> bool:
        """Return True if the folder has a checkpoint to resume from, damaged or not."""
        return bool(self.save_dir) and bool(resume_candidates(Path(self.save_dir)))

    def resume_or_load(self, path: str, *, resume: bool | ResumePoint = True) -> dict[str, Any]:
        """Resume from the newest undamaged checkpoint of the folder, or else load ``path``.

        Args:
            path: checkpoint to load if there is none to resume from.
            resume: True searches the folder, False does not. A ``ResumePoint`` that was found earlier saves reading
                its checkpoint again.

        Raises:
            SetupError: every checkpoint of the folder is damaged, or for the reasons of ``load``.
        """
        if resume is True and self.save_dir:
            resume = find_resume_point(Path(self.save_dir), trust="trust" in self.rules)
        if not isinstance(resume, ResumePoint):
            return self.load(path, checkpointables=[])
        if resume.passed_over:
            logger.warning("%s; going on from %s", resume.passed_over, resume.path)
        if "trainer" in self.checkpointables and self.save_to_disk and self.tag_last:
            name_last(Path(self.save_dir), resume.path.name)
        return self._load(str(resume.path), list(self.checkpointables), resume.take_content())

    def load(
        self, path: str, checkpointables: list[str] | None = None, *, content: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Load as Detectron2 does, and set ``report`` (None for an empty path).

        Args:
            content: content of the file, if it has been read already; changed in place.

        Returns:
            the rest of the checkpoint's content.

        Raises:
            SetupError: the file cannot be read as a checkpoint, a layer has the wrong shape, or the manifest
                contradicts the config.
        """
        self.report = None
        if not path:
            logger.info("MODEL.WEIGHTS is empty: the model starts with random weights")
            return {}
        return self._load(path, list(self.checkpointables) if checkpointables is None else checkpointables, content)

    def _load(self, path: str, names: list[str], checkpoint: dict[str, Any] | None = None) -> dict[str, Any]:
        resuming = "trainer" in names
        rules = self.rules - {"by_class_name", "skip_mismatched"} if resuming else self.rules
        logger.info("Loading %s", path)
        checkpoint = checkpoint or read_checkpoint(path, trust="trust" in rules)
        try:
            convert(checkpoint, path, num_classes=getattr(self.model, "num_classes", None), averaged=not resuming)
            found = checkpoint.get("manifest") or {}
            compare(found, self.manifest, path, rules)
            named = found.get("classes"), (self.manifest or {}).get("classes")
            new_classes = fit_class_layer(
                checkpoint["model"], self.model.state_dict(), *named, path, rules, resuming=resuming
            )
            incompatible = self._load_model(checkpoint)  # Detectron2's method, which matches the names of layers
            mismatched = [key for key, _, _ in incompatible.incorrect_shapes]
            if mismatched and "skip_mismatched" not in rules:
                key, theirs, ours = incompatible.incorrect_shapes[0]
                common = ", or MODEL.LOAD by_class_name to keep the classes in common" if all(named) else ""
                remedy = f"MODEL.LOAD skip_mismatched to start those layers from scratch{common}"
                if resuming:
                    remedy = f"start a new run from it: without --resume, another OUTPUT_DIR and MODEL.WEIGHTS {path}"
                raise SetupError(
                    f"{path}: {key} has shape {tuple(theirs)}, the config asks for {tuple(ours)} "
                    f"({len(mismatched)} such: {name_some(mismatched)}).\n"
                    f"Set NUM_CLASSES and the anchors as in the checkpoint, or {remedy}."
                )
            self._log_incompatible_keys(incompatible)  # not before: the sentence above says it all
            for name in names:
                if name in checkpoint:
                    self.checkpointables[name].load_state_dict(checkpoint.pop(name))
        except SetupError:
            raise
        except Exception as error:  # state dicts of another kind raise errors of any type
            raise unreadable(path, error) from error
        absent = {*incompatible.missing_keys, *mismatched}
        if CLASS_LAYER[0] in absent:
            logger.info("the class layer starts from the prior: %s has no class layer that fits", path)
        # No output depends on num_batches_tracked, and converted checkpoints lack it.
        state = self.model.state_dict().items()
        sizes = {key: value.numel() for key, value in state if not key.endswith("num_batches_tracked")}
        missing = tuple(key for key in sizes if key in absent)
        num_values = sum(sizes.values())
        num_loaded = num_values - sum(sizes[key] for key in missing)
        missing += tuple(f"class {name}" for name in new_classes)
        self.report = LoadReport(path, num_values, num_loaded, missing)
        logger.info("%s", self.report)
        return checkpoint


def read_checkpoint(path: str, *, trust: bool = False) -> dict[str, Any]:
    """Read a checkpoint as ``read_weights`` does; each of its errors is a SetupError.

    Raises:
        SetupError: the file is missing, damaged or no checkpoint, or asks for more than weights.
    """
    try:
        content = read_weights(path, trust=trust)
    except SetupError:
        raise
    except DamagedFile as error:
        raise SetupError(f"{path} cannot be read as a checkpoint: {error}. Copy or download it again.") from error
    except Exception as error:  # reading a file that is not a checkpoint can raise errors of any type
        raise unreadable(path, error) from error
    if fault := manifest_fault(content.get("manifest")):
        raise SetupError(f"{path} cannot be used: its manifest {fault}. Take the file from a source that you trust.")
    return content


def unreadable(path: str, error: Exception) -> SetupError:
    return SetupError(
        f"{path} cannot be read as a checkpoint ({first_line(error)}). "
        "Give a .pth, .pkl or .safetensors file of Detectron2 or of this plugin."
    )


def averaged_state(average: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return averaged weights under the model's own keys; ``average`` is the entry AVERAGE_KEY of a checkpoint."""
    return {key.removeprefix("module."): value for key, value in average.items() if key != "n_averaged"}


def convert(checkpoint: dict[str, Any], path: str, *, num_classes: int | None, averaged: bool) -> None:
    """Convert torchvision's keys to Detectron2's, in place; with ``averaged``, use averaged weights if present."""
    if is_torchvision(checkpoint["model"]):
        checkpoint["model"], checkpoint["manifest"] = convert_torchvision(checkpoint["model"], num_classes)
        logger.info("%s is a checkpoint of torchvision: converted to Detectron2's keys", path)
    if AVERAGE_KEY in checkpoint and averaged:
        checkpoint["model"] = averaged_state(checkpoint[AVERAGE_KEY])
        logger.info("using the averaged weights of %s, which its training evaluated", path)


def compare(found: dict[str, Any], expected: dict[str, Any] | None, path: str, rules: Collection[str]) -> None:
    """Compare the manifest of a checkpoint with that of the config, except for the classes.

    Raises:
        SetupError: they disagree, and ``rules`` does not contain "ignore_manifest".
    """
    if found and expected and "ignore_manifest" not in rules and (clauses := disagreements(found, expected)):
        remedy = found.get("remedy", "Set these keys as in the checkpoint")
        raise SetupError(
            f"{path} was trained for something else: {'; '.join(clauses)}.\n"
            f"{remedy}, or set MODEL.LOAD ignore_manifest to load it anyway."
        )


def build_checkpointer(
    cfg: CfgNode, model: nn.Module, save_dir: str = "", *, classes: Sequence[str] | None, **checkpointables
) -> RetinaCheckpointer:
    """Build the checkpointer of a config.

    Args:
        classes: class names of the data by class id (``data.class_names.config_class_names``); None if unknown.
    """
    return RetinaCheckpointer(
        model, save_dir, manifest=build_manifest(cfg, model, classes), rules=loading_rules(cfg),
        keep=cfg.SOLVER.KEEP_CHECKPOINTS, **checkpointables,
    )  # fmt: skip


def loading_rules(cfg: CfgNode) -> frozenset[str]:
    """Return the words of MODEL.LOAD; empty for "strict"."""
    return frozenset(cfg.MODEL.LOAD.split("+")) - {"strict"}


def check_weights(path: str) -> None:
    """Check that MODEL.WEIGHTS can be fetched, before anything is built; "" passes.

    Raises:
        SetupError: the file does not exist or is empty, or the address cannot be fetched.
    """
    if not path:
        return
    address = urlparse(path)._replace(query="").geturl()
    try:
        local = PathManager.get_local_path(address)
    except Exception as error:  # iopath's handlers raise errors of any type
        raise SetupError(
            f"MODEL.WEIGHTS {path} could not be fetched ({first_line(error)}).\n"
            "Download it elsewhere and give its path, or train from scratch: this config's own keys on top of "
            "configs/Base-Retina-Scratch.yaml or configs/retina_R18_FPN_scratch.yaml."
        ) from error
    if not os.path.isfile(local):
        raise SetupError(f"MODEL.WEIGHTS {path} is not a file. Give the path of a .pth or .pkl checkpoint.")
    if os.path.getsize(local) == 0:
        raise SetupError(f"MODEL.WEIGHTS {path} is empty. Copy or download it again.")
