"""Checks that a training can load MODEL.WEIGHTS, and which layers; without a manifest, compares its config."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.modeling.meta_arch.retinanet import RetinaNet

from ...data.class_names import config_class_names
from ...errors import SetupError
from ...findings import Finding, finding
from ...training.trained_model import run_config
from ...training.trial import silence
from ...weights.checkpointer import build_checkpointer, check_weights, loading_rules
from ...weights.manifest import build_manifest, disagreements
from ..analysis.anchor_layout import build_detector

__all__ = ["find_weight_faults"]


def find_weight_faults(cfg: CfgNode, model: RetinaNet) -> Iterator[Finding]:
    """Load MODEL.WEIGHTS into ``model`` (from ``build_detector``) as a training does; check names, shapes, manifest."""
    key, path = "MODEL.WEIGHTS", cfg.MODEL.WEIGHTS
    if not path:
        return
    if "://" in path:
        yield finding("weights-remote", key, f"MODEL.WEIGHTS {path} is an address, which was not fetched")
        return
    rules, classes = loading_rules(cfg), config_class_names(cfg)
    if "by_class_name" in rules:  # mapping computes with values, and tensors on "meta" have none
        model.head.cls_score.to_empty(device="cpu")
    checkpointer = build_checkpointer(cfg, model, classes=classes)
    try:
        check_weights(path)
        with silence(), warnings.catch_warnings():  # the findings repeat its lines
            warnings.filterwarnings("ignore", message=".*meta parameter in the current model, which is a no-op.*")
            warnings.filterwarnings("ignore", message=".*copying from a non-meta parameter.*")
            loaded = checkpointer.load(path)
    except SetupError as error:
        yield finding("weights-unusable", key, str(error))
        return
    missing = checkpointer.report.missing if checkpointer.report else ()
    backbone = {name for name, _ in model.named_parameters() if name.startswith("backbone.bottom_up.")}
    if backbone and backbone <= set(missing):
        yield finding("weights-nothing-loaded", key, f"MODEL.WEIGHTS {path} has no layer of the backbone")
    elif missing:
        places = [{"file": path, "value": name} for name in missing]
        yield finding("weights-in-part", key, str(checkpointer.report), places=places)
    if not loaded.get("manifest") and "ignore_manifest" not in rules:
        beside = Path(path).with_name("config.yaml")
        if not beside.is_file():
            return
        try:
            trained = run_config(beside)
            detector, _ = build_detector(trained, str(beside))  # its anchors have values, unlike the weights
        except (SetupError, KeyError):  # a config of another program or of an unknown detector
            return
        if clauses := disagreements(build_manifest(trained, detector, None), checkpointer.manifest):
            what = f"By {beside} the weights were trained for something else: {'; '.join(clauses)}"
            yield finding("weights-other-config", key, what)
