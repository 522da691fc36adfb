"""Loading weights: what was found, what was loaded, and a clear refusal where it does not fit."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import nn

from ..errors import SetupError, first_line
from .averages import AVERAGE_KEY, averaged_state
from .classes import CLASS_LAYER, ClassMap, map_class_layer
from .files import damage, name_last, newest_whole, prune, resume_candidates, write_checkpoint
from .manifest import build_manifest, disagreements
from .read import check_download, read_weights
from .torchvision import convert_torchvision, is_torchvision

__all__ = ["LoadReport", "RetinaCheckpointer", "build_checkpointer", "check_weights"]

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
    """Detectron2's checkpointer that keeps a manifest, reports what it loaded and refuses what does not fit."""

    def __init__(
        self, model, save_dir: str = "", *, skip_mismatched: bool = False, manifest: dict | None = None,
        map_classes: bool = False, ignore_manifest: bool = False, trust_weights: bool = False, tag_last: bool = True,
        keep: int = 0,
        **checkpointables,
    ):  # fmt: skip
        """
        Args:
            skip_mismatched: load a checkpoint without the layers whose shapes differ, and without the class layer if
                the classes differ (MODEL.SKIP_MISMATCHED_WEIGHTS).
            manifest: of the config (``build_manifest``): saved with the weights, and compared with theirs on loading.
                None does neither.
            map_classes: take the class layer class by class, by name (MODEL.MAP_CLASSES).
            ignore_manifest: load what contradicts the manifest (MODEL.IGNORE_MANIFEST).
            trust_weights: unpickle whatever a file holds (MODEL.TRUST_WEIGHTS).
            tag_last: let --resume go on from what is saved.
            keep: numbered checkpoints that are left in the folder; 0 leaves all (SOLVER.KEEP_CHECKPOINTS).
            model, save_dir, checkpointables: as for ``DetectionCheckpointer``.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.skip_mismatched = skip_mismatched
        self.manifest = manifest
        self.map_classes = map_classes
        self.ignore_manifest = ignore_manifest
        self.trust_weights = trust_weights
        self.tag_last = tag_last
        self.keep = keep
        self.report: LoadReport | None = None
        self._path = self._checked = ""
        self._resuming = False
        self._new_classes: list[str] = []

    def save(self, name: str, **extra) -> None:
        """Detectron2's ``save``, with the manifest, whole and on the disk before ``last_checkpoint`` names it.

        Raises:
            SetupError: it cannot be written; the checkpoints before it stay.
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
        """Whether the folder has something to resume from, damaged or not."""
        return bool(self.save_dir) and bool(resume_candidates(Path(self.save_dir)))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """As Detectron2's; of damaged checkpoints the newest whole one is resumed from.

        Raises:
            SetupError: none is whole, or as for ``load``.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        newest = newest_whole(Path(self.save_dir), tell=True)
        newest = comm.all_gather(newest)[0]  # the others may have looked a moment later
        if "trainer" in self.checkpointables and self.save_to_disk and self.tag_last:
            name_last(Path(self.save_dir), newest.name)
        self._checked = str(newest)
        return self.load(str(newest))

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Detectron2's ``load``; ``report`` then says what was loaded (None for an empty path).

        Raises:
            SetupError: the file cannot be read as a checkpoint, a layer has another shape, or the manifest
                contradicts the config.
        """
        self.report = None
        self._path = path
        self._resuming = checkpointables is None and "trainer" in self.checkpointables
        self._new_classes = []
        try:
            extra = super().load(path, checkpointables)
        except SetupError:
            raise
        except Exception as error:  # unpickling a file that is none raises whatever its bytes ask for
            raise SetupError(
                f"{path} cannot be read as a checkpoint ({first_line(error)}). "
                "Give a .pth, .pkl or .safetensors file of Detectron2 or of this plugin."
            ) from error
        finally:
            self._parsed_url_during_load = None  # Detectron2 leaves it where a file is refused, and refuses the next
        if self.report is not None:
            logger.info("%s", self.report)
        return extra

    def _load_file(self, filename: str) -> dict:
        """In place of Detectron2's, which unpickles what it is given."""
        reason = damage(Path(filename)) if filename != self._checked else ""
        if reason:
            raise SetupError(f"{self._path} cannot be read as a checkpoint: {reason}. Copy or download it again.")
        check_download(self._path, filename)
        checkpoint = read_weights(filename, self._path, trust=self.trust_weights)
        if parse_qs(urlparse(self._path).query).get("matching_heuristics") == ["True"]:
            checkpoint["matching_heuristics"] = True
        return checkpoint

    def _load_model(self, checkpoint):
        if is_torchvision(checkpoint["model"]):
            num_classes = getattr(self.model, "num_classes", None)
            checkpoint["model"], checkpoint["manifest"] = convert_torchvision(checkpoint["model"], num_classes)
            logger.info("%s is of torchvision's: converted", self._path)
        if AVERAGE_KEY in checkpoint and not self._resuming:
            checkpoint["model"] = averaged_state(checkpoint[AVERAGE_KEY])
            logger.info("the averaged weights of %s are taken, which its training evaluated", self._path)
        self._compare(checkpoint)
        incompatible = super()._load_model(checkpoint)
        mismatched = [key for key, _, _ in incompatible.incorrect_shapes]
        if mismatched and not self.skip_mismatched:
            key, found, expected = incompatible.incorrect_shapes[0]
            raise SetupError(
                f"{self._path}: {key} has shape {tuple(found)}, the config asks for {tuple(expected)} "
                f"({len(mismatched)} such: {_named(mismatched)}).\n"
                "Set NUM_CLASSES and the anchors as in the checkpoint, or MODEL.SKIP_MISMATCHED_WEIGHTS True to start "
                "those layers afresh"
                + (", or MODEL.MAP_CLASSES True to keep the classes in common." if self._has_classes else ".")
            )
        # A counter that no output depends on; converted checkpoints lack it.
        state = {k: v for k, v in self.model.state_dict().items() if not k.endswith("num_batches_tracked")}
        absent = {*incompatible.missing_keys, *mismatched}
        if CLASS_LAYER[0] in absent:
            logger.info("the class layer starts afresh, with the prior: %s has none that fits", self._path)
        missing = tuple(key for key in state if key in absent)
        num_values = sum(value.numel() for value in state.values())
        num_missing = sum(state[key].numel() for key in missing)
        missing += tuple(f"class {name}" for name in self._new_classes)
        self.report = LoadReport(self._path, num_values, num_values - num_missing, missing)
        return incompatible

    def _compare(self, checkpoint: dict) -> None:
        """Refuse, or mend where asked, what the checkpoint's manifest says against the config."""
        found = checkpoint.get("manifest")
        self._has_classes = bool(found and self.manifest and found.get("classes") and self.manifest["classes"])
        if self.map_classes and not self._has_classes and not self._resuming and CLASS_LAYER[0] in checkpoint["model"]:
            culprit = self._path if self.manifest and self.manifest["classes"] else "the data set"
            raise SetupError(
                f"MODEL.MAP_CLASSES is True, but {culprit} does not tell its classes by name. Set it to False, or take "
                "a checkpoint of this plugin and a data set with names."
            )
        if not found or not self.manifest:
            return
        if not self.ignore_manifest and (clauses := disagreements(found, self.manifest)):
            remedy = found.get("remedy", "Set these keys as in the checkpoint")
            raise SetupError(
                f"{self._path} was trained for something else: {'; '.join(clauses)}.\n"
                f"{remedy}, or MODEL.IGNORE_MANIFEST True to load it all the same."
            )
        if self._has_classes:
            self._fit_classes(checkpoint["model"], ClassMap(found["classes"], self.manifest["classes"]))

    def _fit_classes(self, state: dict, classes: ClassMap) -> None:
        if classes.is_identity:
            return
        if self.map_classes and not self._resuming:
            map_class_layer(state, self.model.state_dict(), classes)
            self._new_classes = classes.new
            logger.info("%s", classes)
        elif self.skip_mismatched and not self._resuming:
            for key in CLASS_LAYER:
                state.pop(key, None)
        elif len(classes.found) == len(classes.wanted) and not self.ignore_manifest:
            # Another number is for the check of shapes.
            i = next(i for i, (a, b) in enumerate(zip(classes.found, classes.wanted, strict=True)) if a != b)
            remedy = (
                "Go on with the data set that the run began with, or start another run."
                if self._resuming
                else "Set MODEL.MAP_CLASSES True to take the class layer by name, MODEL.SKIP_MISMATCHED_WEIGHTS True "
                "to start it afresh, or MODEL.IGNORE_MANIFEST True where they are the same classes under other names."
            )
            raise SetupError(
                f"{self._path} has other classes than the data: class {i} is {classes.found[i]!r} in the checkpoint "
                f"and {classes.wanted[i]!r} in the data.\n{remedy}"
            )


def build_checkpointer(cfg: CfgNode, model: nn.Module, save_dir: str = "", **checkpointables) -> RetinaCheckpointer:
    """The checkpointer that a config asks for."""
    return RetinaCheckpointer(
        model,
        save_dir,
        skip_mismatched=cfg.MODEL.SKIP_MISMATCHED_WEIGHTS,
        manifest=build_manifest(cfg, model),
        map_classes=cfg.MODEL.MAP_CLASSES,
        ignore_manifest=cfg.MODEL.IGNORE_MANIFEST,
        keep=cfg.SOLVER.KEEP_CHECKPOINTS,
        trust_weights=cfg.MODEL.TRUST_WEIGHTS,
        **checkpointables,
    )


def check_weights(cfg: CfgNode, *, resume: bool) -> None:
    """Make sure that the weights a run starts from can be had, before anything is built.

    Raises:
        SetupError: none of the checkpoints to resume from is whole; or ``MODEL.WEIGHTS`` names a file that is
            not there or an address that cannot be fetched.
    """
    if resume and resume_candidates(Path(cfg.OUTPUT_DIR)):
        newest_whole(Path(cfg.OUTPUT_DIR))
        return
    path = cfg.MODEL.WEIGHTS
    if not path:
        return
    address = urlparse(path)._replace(query="").geturl()
    try:
        local = PathManager.get_local_path(address)
    except Exception as error:  # iopath lets through whatever its handlers raise
        raise SetupError(
            f"MODEL.WEIGHTS {path} could not be fetched ({first_line(error)}).\n"
            "Download it elsewhere and give its path, or train from scratch: this config's own keys on top of "
            "configs/Base-Retina-Scratch.yaml or configs/retina_R18_FPN_scratch.yaml."
        ) from error
    if not os.path.isfile(local):
        raise SetupError(f"MODEL.WEIGHTS {path} is not a file. Give the path of a .pth or .pkl checkpoint.")
    if os.path.getsize(local) == 0:
        raise SetupError(f"MODEL.WEIGHTS {path} is empty. Copy or download it again.")


def _named(keys: Iterable[str]) -> str:
    keys = list(keys)
    more = f" and {len(keys) - MAX_NAMED} more" if len(keys) > MAX_NAMED else ""
    return ", ".join(keys[:MAX_NAMED]) + more
