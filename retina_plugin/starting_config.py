"""Choose a config that fits a folder of one's own images and the machine."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.utils.file_io import Detectron2Handler
from iopath.common.file_io import get_cache_dir

from .config.load import config_values, load_config
from .config.shipped import find_config
from .data.formats import read_boxes
from .data.formats.box_set import BoxSet
from .data.formats.files import list_files, refuse_results
from .data.images import IMAGE_SUFFIXES
from .errors import SetupError, count

__all__ = ["choose_config"]

LABEL_FOLDERS = ("labels", "Annotations", "annotations", "Labels", "xml", "ann")  # beside a folder of images
SMALL, PRETRAINED = "configs/retina_R18_FPN_scratch.yaml", "configs/retina_R50_FPN.yaml"
VAL_FRACTION = 0.2
# Pixels that the small objects keep after resizing: the smallest anchor of SMALL (docs/own_data.md).
SMALLEST = 16
SMALL_PERCENTILE = 10  # of the boxes by side: one in ten may be smaller
# Shorter side in tests, pixels: least, and most on a CPU (a step takes seconds there) and on a GPU (the paper's 800).
LEAST_SIDE, MOST_ON_CPU, MOST_ON_GPU = 256, 512, 800
STEP = 32  # the network pads to multiples of it
LEAST_TRAIN_SIDE = 0.875  # of the test side: the range of the shipped examples
# Length of the training: epochs of the shipped examples (16), within what a small set needs and a CPU can do.
EPOCHS, LEAST_ITERATIONS = 16, 600
MOST_EPOCHS = 400  # beyond it retina doctor warns (schedule-long)
MOST_ITERATIONS = {"cpu": 3000, "gpu": 90000}
GPU_BATCH, RATE_PER_IMAGE = 8, 0.01 / 16  # the paper's rate and batch (Sec. 4.1), scaled linearly
EVALUATIONS = 5
SHOWN = 8  # class names


@dataclass(frozen=True)
class StartingConfig:
    """A shipped config and the keys to set over it."""

    base: str
    values: dict[str, Any]  # dotted key -> value
    reasons: dict[str, str]  # dotted key -> why

    @property
    def opts(self) -> list[Any]:
        """The values as KEY VALUE pairs."""
        return [word for pair in self.values.items() for word in pair]

    def as_yaml(self) -> str:
        """Return a config file with a reason for each choice."""
        reason = self.reasons.get("_BASE_")
        lines, inside = [f'_BASE_: "{self.base}"' + (f"  # {reason}" if reason else "")], []
        first: dict[str, int] = {}  # place of a group's first key, where all of them are written
        for key in self.values:
            for depth in range(key.count(".") + 1):
                first.setdefault(key.rsplit(".", depth)[0], len(first))
        places = {
            key: [first[key.rsplit(".", depth)[0]] for depth in range(key.count("."), -1, -1)] for key in self.values
        }
        for key in sorted(self.values, key=places.get):
            value = self.values[key]
            *groups, name = key.split(".")
            known = len(os.path.commonprefix([groups, inside]))
            lines += [f"{'  ' * depth}{groups[depth]}:" for depth in range(known, len(groups))]
            text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
            reason = f"  # {self.reasons[key]}" if key in self.reasons else ""
            lines.append(f"{'  ' * len(groups)}{name}: {text.removesuffix('...' + chr(10)).strip()}{reason}")
            inside = groups
        return "\n".join(lines) + "\n"


def choose_config(folder: str | os.PathLike, opts: Sequence[Any] = ()) -> StartingConfig:
    """Choose the config for the boxes in a folder or file.

    Args:
        opts: KEY VALUE pairs that will stand over the config; of these DATASETS.FORMAT, CLASSES and the folders of the
            images count for reading.

    Raises:
        SetupError: the boxes cannot be read.
    """
    path = Path(os.path.expanduser(os.fspath(folder)))
    data = load_config(find_config(SMALL), opts).DATASETS
    options = {
        "file_format": data.FORMAT, "images": Path(data.TRAIN_IMAGES) if data.TRAIN_IMAGES else None,
        "classes": list(data.CLASSES) or None if not isinstance(data.CLASSES, str) else None,
        "allow_outside": data.ALLOW_OUTSIDE_PATHS,
    }  # fmt: skip
    try:
        train = read_boxes(path, subset="train", **options)
    except SetupError as error:
        photos = list_files(path, IMAGE_SUFFIXES) if path.is_dir() else []
        if not photos or len(photos) < len(list_files(path, [""])):  # other files may be annotations
            raise
        refuse_results(path)
        beside = [name for name in LABEL_FOLDERS if (path.absolute().parent / name).is_dir()]
        if beside:
            above = os.path.normpath(path / os.pardir) if path.name not in ("", os.pardir) else path.absolute().parent
            raise SetupError(
                f"{folder} has {count(len(photos), 'image')} alone; {beside[0]} is beside it: name the folder above, "
                f"{above}."
            ) from error
        raise SetupError(
            f"{folder} has {count(len(photos), 'image')} and no boxes. Draw the boxes first, for example with "
            "labelImg, LabelMe or CVAT (docs/own_data.md)."
        ) from error
    if not train.class_counts:
        raise SetupError(f"{folder} has no box in any image to train on: there is no class to learn.")
    try:
        val = read_boxes(path, subset="val", **options)
    except SetupError:  # data.yaml names a part that was not exported; a fault of a label shows in the split of all
        val = train
    has_split = not {image.path for image in train.images} & {image.path for image in val.images}
    has_gpu = torch.cuda.is_available()
    values: dict[str, Any] = {"DATASETS.TRAIN_PATH": str(folder)}
    reasons = {}
    annotated = sum(bool(image.boxes) for image in train.images)  # a training leaves out the others
    if any(key.startswith("DATASETS.VAL_") for key in opts[::2]):
        images = annotated
    elif has_split:
        values["DATASETS.VAL_PATH"] = str(folder)
        images = annotated
        parts = f"{len(train.images)} images to train, {len(val.images)} to validate"
        reasons["DATASETS.VAL_PATH"] = f"its own split: {parts}"
    else:
        values["DATASETS.VAL_FRACTION"] = VAL_FRACTION
        reasons["DATASETS.VAL_FRACTION"] = f"it names no part for validation: a fifth of {len(train.images)} images"
        images = max(round(annotated * (1 - VAL_FRACTION)), 1)
    weights = load_config(find_config(PRETRAINED)).MODEL.WEIGHTS
    cached = Path(get_cache_dir(), "detectron2", weights.removeprefix(Detectron2Handler.PREFIX))
    if not has_gpu:
        values["MODEL.DEVICE"] = "cpu"
        base, reasons["_BASE_"] = SMALL, "no GPU here: the small detector, from random weights"
    elif cached.is_file():
        base, reasons["_BASE_"] = PRETRAINED, "a GPU, and ImageNet's weights are here"
    else:
        base = SMALL
        reasons["_BASE_"] = f"{cached} is not here; with network, --config-file {PRETRAINED} fetches it"
    values["MODEL.RETINANET.NUM_CLASSES"] = 0
    names = train.class_names
    more = ", ..." * (len(names) > SHOWN)
    reasons["MODEL.RETINANET.NUM_CLASSES"] = f"those of the data: {', '.join(names[:SHOWN])}{more}"
    values |= _sizes(train, has_gpu, reasons)
    batch = GPU_BATCH if base == PRETRAINED else load_config(find_config(base)).SOLVER.IMS_PER_BATCH
    most = MOST_ITERATIONS["gpu" if has_gpu else "cpu"]
    least = min(LEAST_ITERATIONS, MOST_EPOCHS * images // batch)
    iterations = max(min(max(round(EPOCHS * images / batch / 100) * 100, least), most), EVALUATIONS)
    if base == PRETRAINED:
        values |= {"SOLVER.IMS_PER_BATCH": batch, "SOLVER.BASE_LR": RATE_PER_IMAGE * batch}
        reasons["SOLVER.BASE_LR"] = "the paper's 0.01 for 16 images, scaled"
        values |= {"SOLVER.STEPS": [round(iterations * 2 / 3), round(iterations * 8 / 9)]}  # as 60k and 80k of 90k
        values["SOLVER.CHECKPOINT_PERIOD"] = iterations // EVALUATIONS
    values["SOLVER.MAX_ITER"] = iterations
    reasons["SOLVER.MAX_ITER"] = f"{iterations * batch / images:.0f} times each image; more is better, and takes longer"
    values["TEST.BEST_METRIC"] = "bbox/AP"
    reasons["TEST.BEST_METRIC"] = "keeps model_best.pth"
    given = config_values(load_config(find_config(base), [*StartingConfig(base, values, {}).opts, *opts]))
    for key in (key for key in opts[::2] if key != "OUTPUT_DIR"):
        values[key], reasons[key] = given[key], "as given"
    values.setdefault("TEST.EVAL_PERIOD", max(values["SOLVER.MAX_ITER"] // EVALUATIONS, 1))
    return StartingConfig(base, values, reasons)


def _sizes(train: BoxSet, has_gpu: bool, reasons: dict[str, str]) -> dict[str, Any]:
    """Return the keys of the image sizes, so that small objects keep SMALLEST pixels where the machine has the time."""
    short = float(np.median([min(image.width, image.height) for image in train.images]))
    long = float(np.median([max(image.width, image.height) for image in train.images]))
    sides = [((box.x2 - box.x1) * (box.y2 - box.y1)) ** 0.5 for image in train.images for box in image.boxes]
    small = float(np.percentile(sides, SMALL_PERCENTILE))
    wanted = short * SMALLEST / small
    most = MOST_ON_GPU if has_gpu else MOST_ON_CPU
    least = min(LEAST_SIDE, -(-short // STEP) * STEP)  # small images are not enlarged
    side = int(min(max(-(-wanted // STEP) * STEP, least), most))
    longest = -(-int(side * max(long / short, 1.5)) // STEP) * STEP
    lowest = round(side * LEAST_TRAIN_SIDE / STEP) * STEP
    keeps = f"one object in ten is below {small:.0f} px of {short:.0f}: {small * side / short:.0f} px at this size"
    if wanted > most:
        keeps += f"; {SMALLEST} px would take {wanted:.0f}, which is slow" + ("" if has_gpu else " without a GPU")
    reasons["INPUT.MIN_SIZE_TEST"] = keeps
    return {
        "INPUT.MIN_SIZE_TRAIN": [lowest, side] if lowest < side else [side], "INPUT.MAX_SIZE_TRAIN": longest,
        "INPUT.MIN_SIZE_TEST": side, "INPUT.MAX_SIZE_TEST": longest,
    }  # fmt: skip
