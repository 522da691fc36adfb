"""Finds settings that work but make little sense for the data set, before an image is opened.

A run logs the warnings among these at its start; ``retina doctor`` shows all of them.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from detectron2.config import CfgNode

from ..config.training_checks import RULE_BATCH, RULE_LR
from ..findings import Finding, finding
from .box_sense import find_box_doubts
from .dataset_content import DatasetContent
from .resized import median_scale

__all__ = ["epochs", "find_doubtful"]

_LOW_LR = 0.1  # of the linear rule, which is SGD's alone. A guard: a tenth is fine-tuning still
# The longest schedule of Detectron2's COCO baselines (configs/new_baselines, 400 epochs of large-scale jitter).
_MOST_EPOCHS = 400
# Half an octave: objects are then nearer to the sizes that another level of the pyramid was trained on (paper Sec. 4).
_SCALES_APART = 2**0.5
_ENLARGED = 2.0  # beyond it three of four pixels are interpolated
_RARE_BOXES = 10  # LVIS calls a class of at most 10 training images rare


def find_doubtful(cfg: CfgNode, contents: Mapping[str, DatasetContent]) -> list[Finding]:
    """Look at schedule, learning rate, sizes, classes and boxes of the sets of ``cfg``, by name; seconds for COCO."""
    train = [contents[name] for name in cfg.DATASETS.TRAIN if name in contents]
    test = [contents[name] for name in cfg.DATASETS.TEST if name in contents]
    found = [
        *check_schedule(cfg, train),
        *check_learning_rate(cfg),
        *check_evaluation(cfg, test),
        *check_scales(cfg, train, test),
    ]
    for content in train:
        found += [*check_unlearned_classes(content), *check_empty_images(cfg, content)]
    for content in {content.name: content for content in (*train, *test)}.values():
        found += find_box_doubts(cfg, content, for_training=content in train)
    return found


def epochs(cfg: CfgNode, contents: list[DatasetContent]) -> float:
    """How often a run shows each image of the training sets; 0 of sets without images."""
    images = sum(c.num_annotated if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else len(c.image_ids) for c in contents)
    return cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH / images if images else 0.0


def check_schedule(cfg: CfgNode, train: list[DatasetContent]) -> Iterator[Finding]:
    solver, number = cfg.SOLVER, epochs(cfg, train)
    run = f"SOLVER.MAX_ITER {solver.MAX_ITER} x IMS_PER_BATCH {solver.IMS_PER_BATCH}"
    if 0 < number < 1:
        needed = -(-solver.MAX_ITER // number)
        yield finding(
            "schedule-short",
            "SOLVER.MAX_ITER",
            f"{run} shows {number:.2f} of the training images",
            f"Set SOLVER.MAX_ITER {needed:.0f} for one epoch (the paper's schedule has 12)"
            + (", with SOLVER.STEPS." if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" else "."),
        )
    if number > _MOST_EPOCHS:
        yield finding("schedule-long", "SOLVER.MAX_ITER", f"{run} shows each training image {number:.0f} times")
    if solver.MAX_ITER / 2 < solver.WARMUP_ITERS <= solver.MAX_ITER:
        what = f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is over half of SOLVER.MAX_ITER {solver.MAX_ITER}"
        yield finding("warmup-long", "SOLVER.WARMUP_ITERS", what)


def check_learning_rate(cfg: CfgNode) -> Iterator[Finding]:
    rule = RULE_LR * cfg.SOLVER.IMS_PER_BATCH / RULE_BATCH
    if cfg.SOLVER.OPTIMIZER == "SGD" and cfg.SOLVER.BASE_LR < _LOW_LR * rule:
        yield finding(
            "lr-low",
            "SOLVER.BASE_LR",
            f"SOLVER.BASE_LR {cfg.SOLVER.BASE_LR:g} is low for IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}: the linear "
            f"rule ({RULE_LR} for {RULE_BATCH} images) gives {rule:g}",
            f"Set SOLVER.BASE_LR {rule:g}, or less to fine-tune a detector.",
        )


def check_evaluation(cfg: CfgNode, test: list[DatasetContent]) -> Iterator[Finding]:
    if test and not cfg.TEST.EVAL_PERIOD:
        yield finding(
            "evaluated-at-end", "TEST.EVAL_PERIOD", "TEST.EVAL_PERIOD is 0: the run is scored at its end only"
        )
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    for content in test:
        boxes = np.bincount(content.box_images, minlength=len(content.image_ids))
        full = np.flatnonzero(boxes > limit)
        if len(full):
            yield finding(
                "detections-few",
                "TEST.DETECTIONS_PER_IMAGE",
                f"{content.name}: {len(full)} of {len(boxes)} images have more boxes (up to {boxes.max()}) than "
                f"TEST.DETECTIONS_PER_IMAGE {limit}",
                places=[content.place(i, value=int(boxes[i])) for i in full],
            )


def check_scales(cfg: CfgNode, train: list[DatasetContent], test: list[DatasetContent]) -> Iterator[Finding]:
    low, high = (median_scale(cfg, train, pick) for pick in (min, max))
    if high > _ENLARGED:
        text = (
            f"INPUT.MIN_SIZE_TRAIN {tuple(cfg.INPUT.MIN_SIZE_TRAIN)} enlarges half of the training images "
            f"{high:.1f} times or more"
        )
        yield finding("images-enlarged", "INPUT.MIN_SIZE_TRAIN", text)
    scale = median_scale(cfg, test, None)
    if train and test and not low / _SCALES_APART <= scale <= high * _SCALES_APART:
        text = (
            f"INPUT.MIN_SIZE_TEST {cfg.INPUT.MIN_SIZE_TEST} scales test images by {scale:.2f}, but "
            f"INPUT.MIN_SIZE_TRAIN {tuple(cfg.INPUT.MIN_SIZE_TRAIN)} training images by {low:.2f} to {high:.2f} "
            "(medians)"
        )
        yield finding("test-size-apart", "INPUT.MIN_SIZE_TEST", text)
    elif train and test and not low <= scale <= high:  # the same scale where MAX_SIZE binds both
        yield from check_side_outside(cfg)


def check_side_outside(cfg: CfgNode) -> Iterator[Finding]:
    side, sides = cfg.INPUT.MIN_SIZE_TEST, tuple(cfg.INPUT.MIN_SIZE_TRAIN)
    if 0 in (side, *sides) or min(sides) <= side <= max(sides):  # 0 keeps an image's own size
        return
    bound, words = (min(sides), "below the smallest") if side < min(sides) else (max(sides), "above the largest")
    text = f"INPUT.MIN_SIZE_TEST {side} is {words} side of training, {bound} of INPUT.MIN_SIZE_TRAIN {sides}"
    yield finding("test-size-outside", "INPUT.MIN_SIZE_TEST", text)


def check_unlearned_classes(content: DatasetContent) -> Iterator[Finding]:
    names = content.class_names or [str(i) for i in range(max(content.class_counts, default=-1) + 1)]
    rare = [i for i in range(len(names)) if 0 < content.class_counts[i] < _RARE_BOXES]
    if rare:
        listed = ", ".join(f"{names[i]} ({content.class_counts[i]})" for i in rare[:5])
        yield finding(
            "class-rare",
            content.name,
            f"{content.name}: {len(rare)} classes have fewer than {_RARE_BOXES} boxes: {listed}",
            places=[{"file": content.source, "value": f"{names[i]}: {content.class_counts[i]}"} for i in rare],
        )


def check_empty_images(cfg: CfgNode, content: DatasetContent) -> Iterator[Finding]:
    empty = np.setdiff1d(np.arange(len(content.image_ids)), content.box_images)
    if len(empty) and len(content.boxes):
        kept = "left out of training" if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else "background"
        text = f"{content.name}: {len(empty)} of {len(content.image_ids)} images have no box and are {kept}"
        yield finding("image-without-boxes", content.name, text, places=map(content.place, empty))
