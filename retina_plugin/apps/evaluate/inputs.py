"""Inputs of a comparison: detections from a results file, a run's folder or a checkpoint, with their ground truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...data.register import allows_outside
from ...errors import SetupError
from ...evaluation.boxes import Detections, Truth, read_detections, read_truth
from ...prepare import prepare
from .model_run import run_model

__all__ = ["check_same_truth", "load_detections"]

RESULTS = "coco_instances_results.json"


@dataclass(frozen=True)
class DetectionSet:
    """Detections, their ground truth, and the folder of its images ("" if unknown)."""

    source: str
    truth: Truth
    found: Detections
    image_root: str


def load_detections(source: Path, *, ground_truth: Path | None, images: Path | None, output: Path) -> DetectionSet:
    """Read the detections of one detector, or run it.

    Args:
        source: a COCO results file, the folder of a run, or a checkpoint with its config.yaml beside it, which is
            then run.
        ground_truth: annotation file; None for the test set of the run's config.yaml.
        output: folder for the files that running a checkpoint writes.

    Raises:
        SetupError: ``source`` is none of these, or its ground truth is missing or has other images or classes.
    """
    if not source.exists():
        raise SetupError(f"{source} does not exist: give a results file ({RESULTS}), a run's folder or weights.")
    if source.suffix in (".pth", ".pkl", ".safetensors"):
        return _run(source, ground_truth, images, output)
    results = _results_in(source) if source.is_dir() else source
    if results is None:
        return _run(source / "model_final.pth", ground_truth, images, output)
    if ground_truth is None:
        # results is RUN/inference/SET/coco_instances_results.json, and SET is registered by the run's config.
        name, config = results.parent.name, results.parent.parent.parent / "config.yaml"
        if not config.is_file():
            raise SetupError(f"{results}: no run's config.yaml names its ground truth: give --ground-truth.")
        prepare(str(config), use="look")
        metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
        json_file = metadata and metadata.get("json_file")
        if not json_file or not Path(json_file).is_file():
            at = f"{json_file} does not exist" if json_file else "is not a set with a COCO JSON file"
            raise SetupError(f"{results}: {name} of {config}: {at}: give --ground-truth.")
        json_file, root, allow_outside = str(json_file), str(metadata.get("image_root", "")), allows_outside(name)
    else:
        json_file, root, allow_outside = str(ground_truth), str(images or ""), False
    truth = read_truth(json_file, str(images or root), allow_outside=allow_outside)
    return DetectionSet(str(results), truth, read_detections(results, truth), str(images or root))


def _run(weights: Path, ground_truth: Path | None, images: Path | None, output: Path) -> DetectionSet:
    if not weights.exists():
        raise SetupError(f"{weights.parent} holds neither inference/*/{RESULTS} nor {weights.name}: is it a run?")
    if ground_truth and not images:
        raise SetupError(f"to run {weights} on --ground-truth {ground_truth}, give the folder of its --images.")
    sets = ["DATASETS.VAL_JSON", str(ground_truth), "DATASETS.VAL_IMAGES", str(images)] if ground_truth else []
    runs = run_model("", str(weights), output, sets)
    if len(runs) > 1:
        raise SetupError(f"{weights}: DATASETS.TEST has {len(runs)} sets; compare on one: give --ground-truth.")
    return DetectionSet(str(weights), runs[0].truth, runs[0].found, runs[0].image_root)


def _results_in(folder: Path) -> Path | None:
    """Find the results file of a run; None if it has none."""
    if (folder / RESULTS).is_file():
        return folder / RESULTS
    for place in ("inference", "inference_eval_only"):
        found = sorted(folder.glob(f"{place}/*/{RESULTS}"))
        if len(found) > 1:
            names = ", ".join(str(path) for path in found)
            raise SetupError(f"{folder} has the results of {len(found)} sets: name one of {names}.")
        if found:
            return found[0]
    return None


def check_same_truth(first: Truth, second: Truth) -> None:
    """Refuse ground truths that differ in an image, class or box.

    Raises:
        SetupError: with the first difference.
    """
    for what, a, b in (
        ("classes", first.class_names, second.class_names),
        ("category ids", first.class_ids, second.class_ids),
        ("image ids", first.image_ids, second.image_ids),
        ("image files", first.file_names, second.file_names),
    ):
        if a != b:
            i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            shown = [repr(values[i]) if i < len(values) else "none" for values in (a, b)]
            raise _differs(first, second, f"{len(a)} and {len(b)} {what}; number {i + 1} is {shown[0]} and {shown[1]}")
    if len(first.boxes) != len(second.boxes):
        raise _differs(first, second, f"{len(first.boxes)} and {len(second.boxes)} boxes")
    arrays = ("sizes", "images", "classes", "boxes", "areas", "crowd")
    changed = next((name for name in arrays if not np.array_equal(getattr(first, name), getattr(second, name))), None)
    if changed:
        raise _differs(first, second, f"other {changed}")


def _differs(first: Truth, second: Truth, difference: str) -> SetupError:
    return SetupError(
        f"the two sides have different ground truth, {first.source} and {second.source}: {difference}. "
        "Compare detections of the same images: give --ground-truth, or evaluate both on one set."
    )
