"""Inputs of a comparison: detections from a results file, a run's folder or a checkpoint, with their ground truth."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...data.register import allows_outside, source_of
from ...errors import SetupError
from ...evaluation.boxes import Detections, Truth, read_truth
from ...evaluation.coco_evaluator import RESULTS
from ...evaluation.origin import Origin, hash_file, read_origin, settings_of
from ...evaluation.predictions import read_detections
from ...prepare import prepare
from ...training.trained_model import run_config
from ...weights.files import FINAL, newest_checkpoint
from .model_run import run_model

__all__ = ["check_same_truth", "different_settings", "load_detections", "with_same_classes"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectionSet:
    """Detections, their ground truth, the folder of its images ("" if unknown) and their origin (None if unknown)."""

    source: str
    truth: Truth
    found: Detections
    image_root: str
    origin: Origin | None


def load_detections(source: Path, *, ground_truth: Path | None, images: Path | None, output: Path) -> DetectionSet:
    """Read the detections of one detector, or run it.

    Args:
        source: a results file, the folder of a run, or a checkpoint, which is then run. Of a run the stored detections
            are taken if they are those of its checkpoint and config on the ground truth; else it is run too.
        ground_truth: annotation file; None for the test set of the run's config.yaml.
        output: folder for the files that running a checkpoint writes.

    Raises:
        SetupError: ``source`` is none of these, or its ground truth is missing or has other images or classes.
    """
    if not source.exists():
        raise SetupError(f"{source} does not exist: give a results file ({RESULTS}), a run's folder or weights.")
    if source.suffix in (".pth", ".pkl", ".safetensors"):
        return _run(source, ground_truth, images, output)
    stored, weights = [source], None
    if source.is_dir():  # the results of its training come first
        places = ("", "inference/*/", "inference_eval_only/*/")
        stored = [path for place in places for path in sorted(source.glob(f"{place}{RESULTS}"))]
        weights = newest_checkpoint(source)
    if not stored:
        if weights is None:
            raise SetupError(f"{source} holds neither inference/*/{RESULTS} nor {FINAL}: is it a run?")
        return _run(weights, ground_truth, images, output)
    cfg, allow_outside, root = None, False, ""
    if ground_truth is None:
        cfg, json_file, root, allow_outside = _set_of_run(stored)
    else:
        json_file = str(ground_truth)
    root = str(images or root)
    truth = read_truth(json_file, root, allow_outside=allow_outside)
    if ground_truth is None:
        truth = replace(truth, source=source_of(stored[0].parent.name))
    results = source
    if source.is_dir():
        results = _results_on(truth, stored, source, weights, cfg)
        if results is None:
            return _run(weights, ground_truth, images, output)
    return DetectionSet(str(results), truth, read_detections(results, truth), root, read_origin(results))


def _set_of_run(stored: list[Path]) -> tuple[CfgNode, str, str, bool]:
    """Find the set of a run: its config, annotation file and image folder, and whether images may lie outside it.

    Args:
        stored: results files; the first is RUN/inference/SET/coco_instances_results.json, and RUN registers SET.
    """
    results = stored[0]
    _refuse_several(stored)
    name, folder = results.parent.name, results.parent.parent
    config = folder / "config.yaml"  # an evaluation of its own leaves it here, a training in the folder above
    if not config.is_file():
        config = folder.parent / "config.yaml"
    if not config.is_file():
        raise SetupError(f"{results}: no run's config.yaml names its ground truth: give --ground-truth.")
    cfg = prepare(run_config(config), use="look").cfg
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    json_file = metadata and metadata.get("json_file")
    if not json_file or not Path(json_file).is_file():
        at = f"{json_file} does not exist" if json_file else "is not a set with a COCO JSON file"
        raise SetupError(f"{results}: {name} of {config}: {at}: give --ground-truth.")
    return cfg, str(json_file), str(metadata.get("image_root", "")), allows_outside(name)


def _results_on(truth: Truth, stored: list[Path], run: Path, weights: Path | None, cfg: CfgNode | None) -> Path | None:
    """Choose the stored detections of a run on ``truth``; None if its checkpoint has to be run.

    Those without a known origin, such as of an earlier release, are taken only if there are no others.

    Raises:
        SetupError: none is of this set, and there is no checkpoint to run.
    """
    origins = {results: read_origin(results) for results in stored}
    if not any(origins.values()):
        _refuse_several(stored)
        logger.warning("%s does not name its set: taken as detections on %s", stored[0], truth.source)
        return stored[0]
    reasons = []
    for results, origin in origins.items():
        if origin is None:
            continue
        if origin.find_set(truth) is None:
            reasons.append(f"{results} has those on {origin.describe()}")
        elif cfg is not None and origin.settings != settings_of(cfg):
            reasons.append(f"{results} has those with other settings")
        elif origin.weights_sha256 and weights and origin.weights_sha256 != hash_file(weights):
            reasons.append(f"{results} has those of {origin.weights}")
        else:
            return results
    if weights is None:
        raise SetupError(
            f"{run} has no detections on {truth.source} ({reasons[0]}), and no {FINAL} to run: evaluate the run again, "
            "or give --ground-truth."
        )
    logger.warning("%s has no detections on %s (%s): running %s", run, truth.source, reasons[0], weights.name)
    return None


def _refuse_several(stored: list[Path]) -> None:
    """Refuse the results of several sets where nothing says which of them is meant."""
    place = stored[0].parent.parent
    if several := [str(path) for path in stored if path.parent.parent == place][1:]:
        names = ", ".join([str(stored[0]), *several])
        raise SetupError(f"{place.parent} has the results of {len(several) + 1} sets: name one of {names}.")


def _run(weights: Path, ground_truth: Path | None, images: Path | None, output: Path) -> DetectionSet:
    if ground_truth and not images:
        raise SetupError(f"to run {weights} on --ground-truth {ground_truth}, give the folder of its --images.")
    sets = ["DATASETS.VAL_JSON", str(ground_truth), "DATASETS.VAL_IMAGES", str(images)] if ground_truth else []
    try:
        runs = run_model("", str(weights), output, sets)
    except SetupError as error:  # whose remedies may be options of retina evaluate
        raise SetupError(f"{error}\nOr compare the detections that retina evaluate stores ({RESULTS}).") from error
    if len(runs) > 1:
        raise SetupError(f"{weights}: DATASETS.TEST has {len(runs)} sets; compare on one: give --ground-truth.")
    return DetectionSet(str(weights), runs[0].truth, runs[0].found, runs[0].image_root, runs[0].origin)


def with_same_classes(sides: Sequence[DetectionSet], order: Sequence[str]) -> list[DetectionSet]:
    """Match the classes of two sides by their names, and number them in ``order``, others behind.

    A class that one side alone has is left out there, with its detections, if it has no box.
    """
    shared = set.intersection(*(set(side.truth.class_names) for side in sides))
    place = {name: i for i, name in enumerate(order)}
    matched = []
    for side in sides:
        kept = shared | side.truth.classes_with_boxes
        names = sorted((n for n in side.truth.class_names if n in kept), key=lambda n: place.get(n, len(place)))
        ids = {name: i for i, name in enumerate(names, 1)}
        classes = np.array([ids.get(name, 0) - 1 for name in side.truth.class_names], dtype=np.int64)[
            side.found.classes
        ]
        found = replace(side.found, classes=classes).where(classes >= 0)
        matched.append(replace(side, truth=side.truth.with_classes(ids), found=found))
    return matched


def check_same_truth(first: Truth, second: Truth, names: Sequence[object] = "AB") -> None:
    """Refuse ground truths that differ in an image, class or box; ids of classes may differ.

    Args:
        names: the two sides, for the message.

    Raises:
        SetupError: with the first difference.
    """

    def differs(difference: str) -> SetupError:
        return SetupError(
            f"the two sides have different ground truth, {names[0]} on {first.source} and {names[1]} on "
            f"{second.source}: {difference}. Compare detections of the same images: give --ground-truth with --images, "
            "or evaluate both on one set (retina evaluate RUN FOLDER) and compare the outputs."
        )

    for what, a, b in (
        ("classes", first.class_names, second.class_names),
        ("image ids", first.image_ids, second.image_ids),
        ("image files", first.file_names, second.file_names),
    ):
        if a != b:
            i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            shown = [repr(values[i]) if i < len(values) else "none" for values in (a, b)]
            raise differs(f"{len(a)} and {len(b)} {what}; number {i + 1} is {shown[0]} and {shown[1]}")
    if len(first.boxes) != len(second.boxes):
        raise differs(f"{len(first.boxes)} and {len(second.boxes)} boxes")
    arrays = ("sizes", "images", "classes", "boxes", "areas", "crowd")
    changed = next((name for name in arrays if not np.array_equal(getattr(first, name), getattr(second, name))), None)
    if changed:
        raise differs(f"other {changed}")


def different_settings(first: Origin | None, second: Origin | None) -> list[str]:
    """Describe the test settings in which two detectors differ, a line for each; [] if an origin is unknown."""
    if first is None or second is None:
        return []
    return [
        f"{key} is {first.settings.get(key)} (A) and {second.settings.get(key)} (B)"
        for key in sorted(first.settings.keys() | second.settings.keys())
        if first.settings.get(key) != second.settings.get(key)
    ]
