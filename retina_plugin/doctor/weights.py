"""MODEL.WEIGHTS: whether the file is there, fits the detector, and was trained with the same anchors and pixels."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling.meta_arch.retinanet import RetinaNet

from ..checks.findings import Finding, doubt, refusal
from ..engine.checkpoint import RetinaCheckpointer, check_weights
from ..engine.config_file import config_difference, load_config
from ..errors import SetupError

__all__ = ["find_weight_faults"]

# What the shapes of a checkpoint do not show.
_UNSEEN = ("MODEL.ANCHOR_GENERATOR.", "MODEL.PIXEL_", "MODEL.RETINANET.IN_FEATURES", "INPUT.FORMAT")
# Keys of the other anchor generator say nothing.
_UNREAD = {
    "OctaveAnchorGenerator": ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ANGLES"),
    "DefaultAnchorGenerator": (
        "MODEL.ANCHOR_GENERATOR.BASE_SIZE",
        "MODEL.ANCHOR_GENERATOR.SCALES_PER_OCTAVE",
        "MODEL.ANCHOR_GENERATOR.ANGLES",
    ),
}


def find_weight_faults(cfg: CfgNode, model: RetinaNet) -> Iterator[Finding]:
    """Load MODEL.WEIGHTS into ``model``, which may be on the "meta" device: only names and shapes count."""
    key, path = "MODEL.WEIGHTS", cfg.MODEL.WEIGHTS
    if not path:
        return
    if "://" in path:
        yield doubt("weights-remote", key, f"MODEL.WEIGHTS {path} is an address, which was not fetched")
        return
    checkpointer = RetinaCheckpointer(model, skip_mismatched=cfg.MODEL.SKIP_MISMATCHED_WEIGHTS)
    try:
        check_weights(cfg, resume=False)
        with _hushed():
            checkpointer.load(path)
    except SetupError as error:
        yield refusal("weights-unusable", key, error)
        return
    missing = checkpointer.report.missing if checkpointer.report else ()
    backbone = {name for name, _ in model.named_parameters() if name.startswith("backbone.bottom_up.")}
    if backbone and backbone <= set(missing):
        yield doubt("weights-nothing-loaded", key, f"MODEL.WEIGHTS {path} has no layer of the backbone")
    elif missing:
        places = [{"file": path, "value": name} for name in missing]
        yield doubt("weights-in-part", key, str(checkpointer.report), places=places)
    yield from _other_config(cfg, Path(path).with_name("config.yaml"))


def _other_config(cfg: CfgNode, beside: Path) -> Iterator[Finding]:
    if not beside.is_file():
        return
    try:
        trained = load_config(str(beside), [])
    except SetupError:  # of another program
        return
    unread = _UNREAD.get(cfg.MODEL.ANCHOR_GENERATOR.NAME, ())
    changed = {
        name: values
        for name, values in config_difference(cfg, trained).items()
        if name.startswith(_UNSEEN) and not name.startswith(unread) and _plain(values[0]) != _plain(values[1])
    }
    if changed:
        listed = "; ".join(f"{name} {ours} (there {theirs})" for name, (theirs, ours) in changed.items())
        yield doubt("weights-other-config", "MODEL.WEIGHTS", f"{beside} has other values: {listed}")


def _plain(value: object) -> object:
    """Tuples as lists: a config that was written to YAML has lists."""
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the log of loading, which the findings repeat, and torch's remark that "meta" tensors take no values."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*meta parameter in the current model, which is a no-op.*")
            warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter.*")
            yield
    finally:
        logging.disable(before)
