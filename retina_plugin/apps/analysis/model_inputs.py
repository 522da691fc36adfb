"""Prepares the config, images and model of an analysis, with the checks of a training."""

import argparse
import logging
import random
from collections.abc import Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes, Instances
from detectron2.utils.logger import setup_logger

from ...config.load import load_config
from ...data.mapper import RetinaDatasetMapper
from ...errors import SetupError
from ...prepare import prepare
from ...training.terminal import escape_control_characters

__all__ = ["build_mapper", "load_analysis_config", "map_images", "sample_records"]

logger = logging.getLogger("retina_plugin")


def load_analysis_config(args: argparse.Namespace, fixed: Sequence[str] = ()) -> tuple[CfgNode, list[str]]:
    """Return the frozen config of an analysis of one split, and the names of the split's data sets.

    Args:
        fixed: KEY VALUE pairs that override those of the command line.

    Raises:
        SetupError: a mistake in the arguments, the config or the data sets.
    """
    if args.max_images < 0:
        raise SetupError(f"--max-images must be >= 0, got {args.max_images}: 0 takes all.")
    setup_logger(name="retina_plugin")
    escape_control_characters("retina_plugin")
    cfg = load_config(args.config_file, args.opts)
    # The other split may be missing here.
    prepared = prepare(cfg, fixed, use="data", split=args.split)
    for warning in prepared.warnings:
        logger.warning("%s", warning)
    cfg = prepared.cfg
    architecture = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if not (isinstance(architecture, type) and issubclass(architecture, RetinaNet)):
        raise SetupError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} is not a RetinaNet, whose anchors and logits are "
            "analysed here: set it to FocalRetinaNet."
        )
    return cfg, list(cfg.DATASETS.TRAIN if args.split == "train" else cfg.DATASETS.TEST)


def sample_records(names: list[str], *, max_images: int, seed: int, filter_empty: bool) -> list[dict]:
    """Draw up to ``max_images`` (0: all) records of data sets in a random order given by ``seed``.

    Args:
        filter_empty: leave out images without boxes, or only with crowds, as training does.

    Raises:
        SetupError: no image is left.
    """
    records = get_detection_dataset_dicts(names, filter_empty=filter_empty)
    if not records:
        raise SetupError(f"{', '.join(names)} has no images to analyse: give a set that has some.")
    random.Random(seed).shuffle(records)
    return records[:max_images] if max_images else records


def build_mapper(cfg: CfgNode, *, resize: str) -> RetinaDatasetMapper:
    """Build a mapper that keeps the ground truth.

    Args:
        resize: "test" resizes as for evaluation; "train" to the middle of INPUT.MIN_SIZE_TRAIN, without other
            augmentation; "augment" augments at random as in training.
    """
    arguments = RetinaDatasetMapper.from_config(cfg, is_train=True)
    if resize == "test":
        arguments["augmentations"] = build_augmentation(cfg, is_train=False)
    elif resize == "train":
        sizes = sorted(cfg.INPUT.MIN_SIZE_TRAIN)
        middle = sizes[len(sizes) // 2] if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "choice" else round(sum(sizes) / 2)
        arguments["augmentations"] = [T.ResizeShortestEdge([middle, middle], cfg.INPUT.MAX_SIZE_TRAIN, "range")]
    return RetinaDatasetMapper(**arguments)


def map_images(records: list[dict], mapper: RetinaDatasetMapper) -> Iterator[dict]:
    """Yield the model's input for each record, with ``instances`` even if the record has no annotations."""
    for record in records:
        image = mapper(record)
        if "instances" not in image:
            empty = Instances(tuple(image["image"].shape[1:]))
            empty.gt_boxes, empty.gt_classes = Boxes(torch.zeros(0, 4)), torch.zeros(0, dtype=torch.long)
            image["instances"] = empty
        yield image
