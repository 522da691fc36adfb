"""``evaluation``: COCO's metrics from predictions in memory to the table of AP, beside pycocotools."""

import contextlib
import dataclasses
import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from numpy.typing import ArrayLike

from retina_plugin.evaluation.coco_evaluator import BoxEvaluator

from .measurement import Measurement, Settings, compare

__all__ = ["HELP", "measure"]

HELP = "COCO's metrics of boxes, from predictions in memory, against the number of images"

IMAGES, QUICK_IMAGES = (625, 1250, 2500, 5000), 200  # val2017 has 5,000
CLASSES, DETECTIONS = 80, 100  # COCO's; its evaluator's limit for an image
BOXES = 7  # an image on average: val2017 has 36,781 in 5,000
IMAGE = (640, 480)  # pixels, width and height
SIDES = (8, 400)  # pixels, log-uniform: small, medium and large objects alike
CROWD_SHARE = 0.012  # 446 of val2017's 36,781
# Made up, so that the metrics are neither 0 nor 1 and that classes tie: of the detections, half lie near a box with its
# class; classes of an image; standard deviation of a corner over the side; digits of a score.
NEAR_SHARE, CLASSES_SEEN, JITTER, SCORE_DIGITS = 0.5, 10, 0.1, 3
ROUNDS = 3  # pycocotools takes a minute for 5,000 images


class _Kept:
    """Keeps the scored evaluation, with COCO's twelve numbers and its curves, which Detectron2 drops."""

    def _derive_coco_results(self, coco_eval, *args, **kwargs) -> dict:
        self.scored = coco_eval
        self.metrics = super()._derive_coco_results(coco_eval, *args, **kwargs)
        return self.metrics


class _Ours(_Kept, BoxEvaluator):
    pass


class _Theirs(_Kept, COCOEvaluator):
    pass


def measure(settings: Settings) -> Iterator[Measurement]:
    """More images, up to those of val2017."""
    settings = dataclasses.replace(settings, rounds=1 if settings.quick else min(settings.rounds, ROUNDS))
    for images in (QUICK_IMAGES,) if settings.quick else IMAGES:
        yield _measure(settings, images, sweep="" if settings.quick else "images")


def _measure(settings: Settings, images: int, *, sweep: str) -> Measurement:
    ground_truth, detections = _data_set(images)
    evaluators = _evaluators(ground_truth)
    # Each has its own: pycocotools writes into the predictions.
    predictions = {name: _per_image(detections) for name in evaluators}
    work = {name: (lambda name=name: _evaluate(evaluators[name], predictions[name])) for name in evaluators}
    measurement = compare(
        "evaluation", "COCO metrics, from predictions in memory to AP", work, ours="retina_plugin", settings=settings,
        warmup=0,
        parameters={
            "images": images, "boxes": len(ground_truth["annotations"]), "detections": len(detections), "sweep": sweep,
        },
    )  # fmt: skip
    # Afterwards, of the calls that were timed: one of pycocotools takes a minute.
    ours, theirs = evaluators.values()
    measurement.equality = {
        "AP, AP of each class (of 100)": _largest(
            [ours.metrics[key] for key in theirs.metrics], list(theirs.metrics.values())
        ),
        "the 12 numbers": _largest(ours.scored.stats, theirs.scored.stats),
        "precision": _largest(ours.scored.eval["precision"], theirs.scored.eval["precision"]),
        "recall": _largest(ours.scored.eval["recall"], theirs.scored.eval["recall"]),
    }
    measurement.figures = {key: theirs.metrics[key] for key in ("AP", "APs")} | {"scored by": ours.package}
    return measurement


def _largest(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Largest difference; infinite where one is NaN (a class without a box) and the other is not."""
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return math.inf
    return float(np.abs(np.nan_to_num(ours) - np.nan_to_num(theirs)).max())


def _evaluate(evaluator: COCOEvaluator, predictions: list[dict]) -> dict:
    evaluator.reset()
    evaluator._predictions = predictions
    with contextlib.redirect_stdout(io.StringIO()):  # the table
        return evaluator.evaluate()


def _evaluators(ground_truth: dict) -> dict[str, COCOEvaluator]:
    """Ours first; their reading of the file is not part of the comparison."""
    name = "retina_plugin_benchmark_evaluation"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ground_truth.json")
        path.write_text(json.dumps(ground_truth))
        MetadataCatalog.get(name).set(json_file=str(path), thing_classes=[str(k) for k in range(CLASSES)])
        try:
            return {
                "retina_plugin": _Ours(name, output_dir=None, max_dets_per_image=None),
                "pycocotools (Detectron2)": _Theirs(name, tasks=("bbox",), use_fast_impl=False),
            }
        finally:
            MetadataCatalog.remove(name)


def _per_image(detections: list[dict]) -> list[dict]:
    """As Detectron2's evaluator gathers them: [{"image_id", "instances": its detections}]."""
    images: dict[int, list[dict]] = {}
    for detection in detections:
        images.setdefault(detection["image_id"], []).append(dict(detection))
    return [{"image_id": image_id, "instances": found} for image_id, found in images.items()]


def _data_set(images: int) -> tuple[dict, list[dict]]:
    """COCO JSON and detections of made-up images; class ids are 0 to CLASSES - 1."""
    generator = np.random.default_rng(0)
    annotations, detections = [], []
    for image_id in range(images):
        seen = generator.integers(CLASSES, size=CLASSES_SEEN)
        boxes, classes = _boxes(generator, generator.poisson(BOXES), seen)
        crowds = generator.random(len(boxes)) < CROWD_SHARE
        for box, class_id, crowd in zip(boxes.tolist(), classes.tolist(), crowds.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": class_id, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": int(crowd)}
            )  # fmt: skip
        found, found_classes = _detections(generator, boxes, classes, seen)
        scores = generator.random(DETECTIONS).round(SCORE_DIGITS)
        detections += [
            {"image_id": image_id, "category_id": class_id, "bbox": box, "score": score}
            for box, class_id, score in zip(found.tolist(), found_classes.tolist(), scores.tolist(), strict=True)
        ]
    content = {
        "images": [{"id": image_id, "width": IMAGE[0], "height": IMAGE[1]} for image_id in range(images)],
        "annotations": annotations,
        "categories": [{"id": k, "name": str(k)} for k in range(CLASSES)],
    }
    return content, detections


def _boxes(generator: np.random.Generator, number: int, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number, 4) XYWH pixels inside the image, and their classes."""
    sides = np.exp(generator.uniform(*np.log(SIDES), size=(number, 2)))
    corners = generator.random((number, 2)) * (np.array(IMAGE) - sides)
    return np.hstack([corners, sides]), generator.choice(seen, number)


def _detections(
    generator: np.random.Generator, boxes: np.ndarray, classes: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(DETECTIONS, 4) XYWH pixels and classes: near a box with its class, or anywhere."""
    found, found_classes = _boxes(generator, DETECTIONS, seen)
    if len(boxes):
        near = generator.random(DETECTIONS) < NEAR_SHARE
        chosen = generator.integers(len(boxes), size=near.sum())
        corners, sides = np.split(boxes[chosen], 2, axis=1)
        jitter = generator.normal(0, JITTER, (len(chosen), 4))
        found[near] = np.hstack([corners + sides * jitter[:, :2], sides * np.exp(jitter[:, 2:])])
        found_classes[near] = classes[chosen]
    return found, found_classes
