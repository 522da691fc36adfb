"""Loads the boxes of a config's data sets as arrays, and resizes them as for testing."""

from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image
from torch import Tensor

from ...data.dataset_content import DatasetContent, load_content
from ...errors import SetupError
from ...findings import raise_first_error
from .anchor_layout import resized_size

__all__ = ["GroundTruth", "join_ground_truth", "load_ground_truth", "resize_boxes"]


@dataclass(frozen=True)
class GroundTruth:
    """M boxes of N images in original pixels, clipped to the image; without crowds and boxes without area."""

    content: DatasetContent
    boxes: np.ndarray  # (M, 4) XYXY
    images: np.ndarray  # (M,) index of the box's image
    rows: np.ndarray  # (M,) index of the box in ``content``
    sizes: np.ndarray  # (N, 2) height and width, whole pixels
    dropped: int  # number of boxes without area or outside their image, which training drops too


def load_ground_truth(cfg: CfgNode) -> GroundTruth:
    """Load the boxes of DATASETS.TRAIN; those of several sets are concatenated.

    Raises:
        SetupError: no data set is named, one is not registered or cannot be read, or there is no box at all.
    """
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise SetupError(
            "DATASETS.TRAIN is empty: name a registered data set, or give DATASETS.TRAIN_JSON and TRAIN_IMAGES."
        )
    for name in names:
        if name not in DatasetCatalog:
            raise SetupError(
                f"DATASETS.TRAIN names {name!r}, which is not registered: give DATASETS.TRAIN_JSON and TRAIN_IMAGES."
            )
    contents = [load_content(name, for_training=True, for_test=False) for name in names]
    raise_first_error(found for content in contents for found in content.findings)
    return join_ground_truth(contents)


def join_ground_truth(contents: list[DatasetContent]) -> GroundTruth:
    """Concatenate the boxes of data sets that are loaded already.

    Raises:
        SetupError: there is no box, or an image whose size is needed cannot be opened.
    """
    content = _join(contents)
    sizes = np.array([_image_size(content, i) for i in range(len(content.image_ids))], dtype=np.int64).reshape(-1, 2)
    limits = sizes[content.box_images][:, [1, 0, 1, 0]].astype(float)
    xyxy = np.concatenate([content.boxes[:, :2], content.boxes[:, :2] + content.boxes[:, 2:]], axis=1)
    xyxy = np.minimum(xyxy.clip(min=0), limits)
    rows = np.flatnonzero((xyxy[:, 2:] > xyxy[:, :2]).all(axis=1))
    if not len(rows):
        raise SetupError(
            f"{content.name}: no box to measure in {len(sizes)} images ({content.source}; crowds and boxes without "
            "area not counted): give a data set with annotations."
        )
    return GroundTruth(content, xyxy[rows], content.box_images[rows], rows, sizes, len(xyxy) - len(rows))


def resize_boxes(truth: GroundTruth, cfg: CfgNode) -> tuple[Tensor, Tensor]:
    """Apply the test-time resize of ``cfg``: (M, 4) float64 XYXY boxes; (N, 2) long heights and widths of images."""
    shapes, inverse = np.unique(truth.sizes, axis=0, return_inverse=True)  # many images share few sizes
    resized = np.array([resized_size(cfg, int(h), int(w)) for h, w in shapes], dtype=np.int64)[inverse.reshape(-1)]
    scale = (resized / truth.sizes)[truth.images][:, [1, 0, 1, 0]]
    return torch.from_numpy(truth.boxes * scale), torch.from_numpy(resized)


def _join(contents: list[DatasetContent]) -> DatasetContent:
    if len(contents) == 1:
        return contents[0]
    starts = np.cumsum([0, *(len(content.image_ids) for content in contents)])
    return DatasetContent(
        name=" + ".join(content.name for content in contents),
        source=", ".join(content.source for content in contents),
        class_names=contents[0].class_names,
        file_names=[name for content in contents for name in content.file_names],
        image_ids=[image_id for content in contents for image_id in content.image_ids],
        sizes=np.concatenate([content.sizes for content in contents]),
        boxes=np.concatenate([content.boxes for content in contents]),
        box_images=np.concatenate([c.box_images + start for c, start in zip(contents, starts[:-1], strict=True)]),
        box_classes=np.concatenate([content.box_classes for content in contents]),
        annotation_ids=[annotation_id for content in contents for annotation_id in content.annotation_ids],
        class_counts=sum((content.class_counts for content in contents), start=type(contents[0].class_counts)()),
    )


def _image_size(content: DatasetContent, i: int) -> tuple[int, int]:
    """Height and width of image ``i``, read from its file if the records do not state them."""
    width, height = content.sizes[i]
    if np.isfinite([width, height]).all():
        return int(height), int(width)
    try:
        with Image.open(content.file_names[i]) as image:
            return image.height, image.width
    except OSError as error:
        raise SetupError(f"{content.name}: image {content.file_names[i]!r} cannot be opened: {error}.") from error
