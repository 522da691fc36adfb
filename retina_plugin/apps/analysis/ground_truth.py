"""The boxes of a config's data set as arrays, and their place in the resized images."""

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
    """M boxes (no crowds) of N images, in pixels of the original images and clipped to them; none without area."""

    content: DatasetContent
    boxes: np.ndarray  # (M, 4) XYXY
    images: np.ndarray  # (M,) index of the box's image
    rows: np.ndarray  # (M,) index of the box in ``content``
    sizes: np.ndarray  # (N, 2) height and width, whole pixels
    dropped: int  # boxes without area, or outside their image; training drops them too


def load_ground_truth(cfg: CfgNode) -> GroundTruth:
    """The boxes of DATASETS.TRAIN, of several sets one after the other.

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
    """The boxes of data sets that have been read, one after the other.

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
            f"{content.name}: no box to look at in {len(sizes)} images ({content.source}; crowds and boxes without "
            "area not counted): give a data set with annotations."
        )
    return GroundTruth(content, xyxy[rows], content.box_images[rows], rows, sizes, len(xyxy) - len(rows))


def resize_boxes(truth: GroundTruth, cfg: CfgNode) -> tuple[Tensor, Tensor]:
    """(M, 4) float64 XYXY boxes and (N, 2) long heights and widths after the test-time resize of ``cfg``."""
    shapes, inverse = np.unique(truth.sizes, axis=0, return_inverse=True)  # few distinct sizes among many images
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
    """Height and width of image ``i``, from its file where the records do not tell."""
    width, height = content.sizes[i]
    if np.isfinite([width, height]).all():
        return int(height), int(width)
    try:
        with Image.open(content.file_names[i]) as image:
            return image.height, image.width
    except OSError as error:
        raise SetupError(f"{content.name}: image {content.file_names[i]!r} cannot be opened: {error}.") from error
