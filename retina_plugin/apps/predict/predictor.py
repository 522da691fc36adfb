"""``RetinaPredictor``: a trained detector as a function from images to boxes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.modeling.meta_arch.retinanet import RetinaNet

from ...data.resized import describe_vanishing, find_vanishing
from ...errors import SetupError
from ...modeling import build_inference_model
from ...training.trained_model import open_model
from .image_input import ImageLike, as_bgr, to_format

__all__ = ["Detections", "RetinaPredictor"]


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections in one image, best score first; M may be 0."""

    boxes: np.ndarray  # (M, 4) float32, XYXY, pixels of the given image (for a file, after its EXIF rotation)
    scores: np.ndarray  # (M,) float32 in [0, 1]
    classes: np.ndarray  # (M,) int64 in [0, K)
    class_names: tuple[str, ...]  # of all K classes
    image_size: tuple[int, int]  # (height, width) of that image

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def labels(self) -> list[str]:
        """Names of the M ``classes``."""
        return [self.class_names[k] for k in self.classes]


class RetinaPredictor:
    """A trained detector for images in memory or on disk, one or many at a time.

    Images are resized as for evaluation (``INPUT.MIN_SIZE_TEST``, ``MAX_SIZE_TEST``). The network computes the same as
    in evaluation, but faster: batch norms are folded, and the memory layout is channels last. The detections in an
    image do not depend on the other images of a batch, up to rounding.
    """

    best_score: float | None = None  # kept after ``note_best_score``

    def __init__(
        self,
        config: str | os.PathLike | CfgNode | None,
        weights: str | os.PathLike,
        *,
        device: str | None = None,
        score_threshold: float | None = None,
        channel_order: str = "BGR",
        class_names: Sequence[str] | None = None,
        opts: Sequence[str] = (),
    ):
        """
        Args:
            config: a YAML file, a cfg (it is not changed), or None for the description in the checkpoint.
            weights: a checkpoint of this plugin or of Detectron2, or the folder of a run.
            device: such as "cpu" or "cuda:1"; None for MODEL.DEVICE, or for the device that replaces it if missing.
            score_threshold: in [0, 1]; detections with a lower score are dropped. None for
                MODEL.RETINANET.SCORE_THRESH_TEST.
            channel_order: channel order of arrays, "BGR" (as from OpenCV) or "RGB"; independent of INPUT.FORMAT.
            class_names: K names; None for those of the checkpoint's manifest, else of the config's data sets, else
                "0", "1", ...
            opts: KEY VALUE pairs that override the config file.

        Raises:
            SetupError: a mistake in the arguments, the config or the weights.
        """
        if channel_order not in ("BGR", "RGB"):
            raise SetupError(f"channel_order must be 'BGR' or 'RGB', got {channel_order!r}.")
        self.channel_order = channel_order
        if isinstance(config, CfgNode) and opts:
            raise SetupError("opts override a config file: set these keys in the cfg itself.")
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise SetupError(f"The score threshold must be in [0, 1], got {score_threshold}.")
        given = {"MODEL.DEVICE": device or None, "MODEL.RETINANET.SCORE_THRESH_TEST": score_threshold}
        fixed = [word for key, value in given.items() if value is not None for word in (key, value)]
        trained = open_model(weights, config, opts, fixed)
        self.cfg, self.report, names = trained.cfg, trained.report, trained.class_names
        if device and self.cfg.MODEL.DEVICE != device:
            raise SetupError(f"The device {device} is not on this machine: give {self.cfg.MODEL.DEVICE}.")
        if class_names and len(class_names) != len(names):
            raise SetupError(f"class_names must be the {len(names)} of the detector, got {len(class_names)}.")
        self.class_names = tuple(class_names or names)
        self._model = build_inference_model(trained.model, inplace=True)
        self._resize = T.AugmentationList(build_augmentation(self.cfg, is_train=False))

    def __call__(self, image: ImageLike) -> Detections:
        """Find the objects in one image.

        Args:
            image: (H, W, 3) uint8 array in ``channel_order``, or the path of an image file.

        Raises:
            SetupError: the image is neither, has no pixels, or cannot be read.
        """
        return self.batch([image])[0]

    def batch(self, images: Sequence[ImageLike]) -> list[Detections]:
        """Find the objects in each of ``images``, which are all held in memory; [] for no image.

        Only images that are padded to the same size run together, since padding changes the detections.

        Raises:
            SetupError: an image is not valid (as for one image); nothing is predicted then.
        """
        if isinstance(images, (str, os.PathLike, np.ndarray)):
            raise SetupError("predictor.batch takes a list of images: call predictor(image) for one.")
        return self.detect([self.prepare(image) for image in images])

    def note_best_score(self) -> None:
        """Keep the highest score from now on in ``best_score``, also of what the score threshold drops."""

        def note(head: torch.nn.Module, inputs: tuple, outputs: tuple) -> None:
            best = max(float(logits.detach().max().sigmoid()) for logits in outputs[0])
            self.best_score = max(best, self.best_score or 0.0)

        if isinstance(self._model, RetinaNet):  # in a two-stage detector the scores are made elsewhere
            self._model.head.register_forward_hook(note)

    def prepare(self, image: ImageLike, name: str = "The image") -> dict[str, Any]:
        """Read one image and resize it: an input of ``detect``; ``name`` begins the message if it is too thin.

        Raises:
            SetupError: the image is not valid, or so long and thin that nothing is left of a side.
        """
        bgr = as_bgr(image, self.channel_order)
        height, width = bgr.shape[:2]
        if find_vanishing(self.cfg, np.array([[width, height]]), None).any():
            raise SetupError(f"{name} {describe_vanishing(self.cfg, (width, height), None)}: cut it into parts.")
        resized = T.AugInput(to_format(bgr, self.cfg.INPUT.FORMAT))
        self._resize(resized)
        tensor = torch.as_tensor(np.ascontiguousarray(resized.image.astype("float32").transpose(2, 0, 1)))
        return {"image": tensor, "height": height, "width": width}

    def detect(self, inputs: Sequence[dict[str, Any]]) -> list[Detections]:
        """Find the objects in each of ``inputs``, as ``prepare`` makes them."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, given in enumerate(inputs):
            multiple = max(self._model.backbone.size_divisibility, 1)
            padded_size = tuple(-(-side // multiple) * multiple for side in given["image"].shape[1:])
            groups.setdefault(padded_size, []).append(i)
        found: list[Detections | None] = [None] * len(inputs)
        for indices in groups.values():
            with torch.inference_mode():
                outputs = self._model([inputs[i] for i in indices])
            for i, output in zip(indices, outputs, strict=True):
                instances = output["instances"].to("cpu")
                found[i] = Detections(
                    boxes=instances.pred_boxes.tensor.numpy(),
                    scores=instances.scores.numpy(),
                    classes=instances.pred_classes.numpy(),
                    class_names=self.class_names,
                    image_size=instances.image_size,
                )
        return found
