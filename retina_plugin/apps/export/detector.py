"""``ExportableDetector``: a RetinaNet from image to final boxes, in tensor operations that can be traced or exported.

N images, K classes, A anchors a location, T candidates a level, C candidates of an image over all levels, at most D
detections of an image.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor, nn
from torchvision.ops import nms

from ...errors import SetupError
from ...modeling import fold_batch_norms

__all__ = ["PADDING_CLASS", "ExportableDetector", "keep_best_of_class"]

# Class id of padding rows (fewer than D detections).
PADDING_CLASS = -1


class ExportableDetector(nn.Module):
    """Computes the detections of ``FocalRetinaNet`` for a batch of images of one size (paper Sec. 4.1, inference).

    It uses no ``Instances`` and no loop over images, and no size is fixed at export: heights, widths and the number of
    images may change from call to call.
    """

    def __init__(self, model: RetinaNet):
        """
        Args:
            model: a trained model; a copy of it with folded batch norms is used (``fold_batch_norms``).

        Raises:
            SetupError: the model is not a RetinaNet, or its backbone needs square images.
        """
        super().__init__()
        if not isinstance(model, RetinaNet):
            raise SetupError(
                f"A {type(model).__name__} cannot be exported: MODEL.META_ARCHITECTURE must be a RetinaNet."
            )
        if (model.backbone.padding_constraints or {}).get("square_size", 0) > 0:
            raise SetupError("A backbone that needs square images cannot be exported: take a ResNet with FPN.")
        # Undo the channels-last layout of CPU training: with it torch.export adds guards on sizes, and the program
        # would refuse a batch of one image, and images with a side below 129 pixels, whose P7 has one row.
        model = fold_batch_norms(model).to(memory_format=torch.contiguous_format)
        self.backbone, self.head = model.backbone, model.head
        self.features = list(model.head_in_features)
        constraints = model.backbone.padding_constraints or {}
        self.divisibility = int(constraints.get("size_divisibility", model.backbone.size_divisibility)) or 1
        self.register_buffer("pixel_mean", model.pixel_mean.clone().float())
        self.register_buffer("pixel_std", model.pixel_std.clone().float())
        generator = model.anchor_generator
        self.strides, self.offset = [int(stride) for stride in generator.strides], float(generator.offset)
        for level, cell in enumerate(generator.cell_anchors):
            self.register_buffer(f"cell_anchors_{level}", cell.clone().float())
        self.box_weights = [float(weight) for weight in model.box2box_transform.weights]
        self.scale_clamp = float(model.box2box_transform.scale_clamp)
        self.num_classes = int(model.num_classes)
        self.score_thresh = float(model.test_score_thresh)
        self.nms_thresh = float(model.test_nms_thresh)
        self.topk_candidates = int(model.test_topk_candidates)
        self.max_detections = int(model.max_detections_per_image)
        # Suppresses overlapping boxes; an export may put its own operator here.
        self.keep = keep_best_of_class

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """
        Args:
            images: (N, 3, H, W) in [0, 255], any numeric type, channels in the order of INPUT.FORMAT.

        Returns:
            boxes (N, D, 4) XYXY in pixels, inside the image; scores (N, D), highest first; classes (N, D) int64;
            counts (N,) int64. Beyond an image's count, boxes and scores are 0 and classes are ``PADDING_CLASS``.
        """
        height, width = images.shape[2], images.shape[3]
        padded = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        step = self.divisibility
        padding = [0, (width + step - 1) // step * step - width, 0, (height + step - 1) // step * step - height]
        features = self.backbone(F.pad(padded, padding))  # 0 is the mean colour
        logits, deltas = self.head([features[name] for name in self.features])
        candidates = [
            self._candidates(level, logits[level], deltas[level], height, width) for level in range(len(self.strides))
        ]
        boxes, scores, classes = (torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True))
        kept = self.keep(boxes, scores, classes, self.nms_thresh, self.num_classes, self.max_detections)
        scores = scores.masked_fill(~kept, -1.0)
        boxes, scores, classes = self._best(boxes, scores, classes)
        limit = torch.stack([torch.full_like(boxes[0, 0, 0], size) for size in (width, height, width, height)])
        boxes = boxes.clamp(min=0).minimum(limit)
        # As in Detectron2's postprocessing, boxes that are empty after clipping are dropped after the best D are taken.
        full = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
        boxes, scores, classes = self._best(boxes, scores.masked_fill(~full, -1.0), classes)
        found = scores > 0
        boxes, scores = boxes * found.unsqueeze(2), scores.clamp(min=0)
        return boxes, scores, classes.masked_fill(~found, PADDING_CLASS), found.sum(dim=1)

    def _candidates(
        self, level: int, logits: Tensor, deltas: Tensor, height: int, width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (N, T, 4), scores (N, T) and classes (N, T) of the T best pairs of anchor and class on a level.

        The score is -1 if the pair is not above the threshold or the anchor's centre lies in the padding. The T best
        pairs belong to the T anchors with the highest best class score, so only these anchors are examined.
        """
        num_images, _, rows, columns = logits.shape
        num_best, num_classes = self.topk_candidates, self.num_classes
        best_logits = logits.unflatten(1, (-1, num_classes)).amax(dim=2)
        best_logits = best_logits.masked_fill(~self._inside(level, rows, columns, height, width), -math.inf).flatten(1)
        # A small level has fewer than T anchors: T empty ones are added, so that topk always finds T.
        empty = best_logits.new_full((1, num_best), -math.inf).expand(num_images, num_best)
        best_logits, index = torch.cat([best_logits, empty], dim=1).topk(num_best, dim=1)
        exists = best_logits > -math.inf
        index = index.masked_fill(~exists, 0)
        logits = _at_anchors(logits, index, num_classes).masked_fill(~exists.unsqueeze(2), -math.inf)
        logits, pair = logits.flatten(1).topk(num_best, dim=1)
        index = index.gather(1, pair // num_classes)
        scores = logits.float().sigmoid()
        scores = scores.masked_fill(~(scores > self.score_thresh), -1.0)
        boxes = self._decode(_at_anchors(deltas, index, 4).float(), self._anchors_at(level, index, rows, columns))
        return boxes, scores, pair % num_classes

    def _inside(self, level: int, rows: int, columns: int, height: int, width: int) -> Tensor:
        """(A, Hi, Wi) mask: True if an anchor's centre lies in the image, not in its padding."""
        cell = getattr(self, f"cell_anchors_{level}")
        x, y = (self._shifts(level, torch.arange(size, device=cell.device)) for size in (columns, rows))
        center_x = ((x + cell[:, 0:1]) + (x + cell[:, 2:3])) / 2
        center_y = ((y + cell[:, 1:2]) + (y + cell[:, 3:4])) / 2
        return (center_x < width).unsqueeze(1) & (center_y < height).unsqueeze(2)

    def _anchors_at(self, level: int, index: Tensor, rows: int, columns: int) -> Tensor:
        """(N, T, 4) XYXY, the anchors of Detectron2's generator at indices (N, T) into (A, Hi, Wi)."""
        shape, place = _divmod(index, rows * columns)
        row, column = _divmod(place, columns)
        x, y = self._shifts(level, column), self._shifts(level, row)
        cell = getattr(self, f"cell_anchors_{level}")[shape]
        return torch.stack([x, y, x, y], dim=2) + cell

    def _shifts(self, level: int, position: Tensor) -> Tensor:
        return (position.to(self.pixel_mean.dtype) + self.offset) * self.strides[level]

    def _decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Apply deltas to anchors, (..., 4), as ``Box2BoxTransform`` does, in operators that every exporter knows."""
        size = anchors[..., 2:] - anchors[..., :2]
        center = anchors[..., :2] + 0.5 * size
        wx, wy, ww, wh = self.box_weights
        center = deltas[..., :2] / deltas.new_tensor([wx, wy]) * size + center
        growth = (deltas[..., 2:] / deltas.new_tensor([ww, wh])).clamp(max=self.scale_clamp)
        half = 0.5 * growth.exp() * size
        return torch.cat([center - half, center + half], dim=-1)

    def _best(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select the D best of each image, or all if there are fewer candidates."""
        num_best = min(self.max_detections, self.topk_candidates * len(self.strides))
        scores, best = scores.topk(num_best, dim=1)
        return boxes.gather(1, best.unsqueeze(2).expand(-1, -1, 4)), scores, classes.gather(1, best)


def _at_anchors(dense: Tensor, index: Tensor, num_values: int) -> Tensor:
    """Gather the V values of the anchors at indices (N, T) into (A, Hi, Wi) from a map (N, A*V, Hi, Wi): (N, T, V).

    The map is not permuted to (N, Hi*Wi*A, V) first, which would copy it.
    """
    area = dense.shape[2] * dense.shape[3]
    value = torch.arange(num_values, device=dense.device)
    shape, place = _divmod(index, area)
    place = ((shape * num_values).unsqueeze(2) + value) * area + place.unsqueeze(2)
    return dense.flatten(1).gather(1, place.flatten(1)).unflatten(1, (-1, num_values))


def _divmod(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder; torch.onnx cannot export ``%`` with a dynamic size."""
    quotient = index // size
    return quotient, index - quotient * size


def keep_best_of_class(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, num_classes: int, max_kept: int
) -> Tensor:
    """Non-maximum suppression within each class of each image, by torchvision's operator.

    Args:
        boxes, scores, classes: (N, C, 4), (N, C), (N, C); a negative score marks an empty row.
        threshold: IoU above which the box with the lower score is dropped.
        num_classes: K.
        max_kept: number of boxes wanted of a class; more may be kept.

    Returns:
        (N, C) bool, True for the boxes that are kept.
    """
    # Boxes of different images and classes are shifted apart, in double precision, so that the shift costs no digits.
    # Empty rows become copies of a dummy box with the highest score, which suppresses them at once. There are two dummy
    # boxes because torchvision tells torch.export that NMS keeps at least two boxes.
    num_images, num_candidates = scores.shape
    image = torch.arange(num_images, device=boxes.device).unsqueeze(1)
    empty = (scores < 0).flatten()
    group = (image * num_classes + classes + 2).flatten().masked_fill(empty, 0)
    group = torch.cat([torch.arange(2, device=boxes.device), group]).unsqueeze(1)
    dummy = boxes.new_tensor([0.0, 0.0, 1.0, 1.0]).double()
    span = boxes.amax().clamp(min=1).double() - boxes.amin().clamp(max=0) + 1
    flat_boxes = torch.where(empty.unsqueeze(1), dummy, boxes.flatten(0, 1).double())
    flat_boxes = torch.cat([dummy.expand(2, 4), flat_boxes]) + group * span
    flat_scores = torch.cat([scores.new_ones(2) * 2, scores.flatten()]).double()
    kept = nms(flat_boxes, flat_scores, threshold)
    mask = torch.zeros_like(flat_scores, dtype=torch.bool).scatter(0, kept, torch.ones_like(kept, dtype=torch.bool))
    return (mask[2:] & ~empty).view(num_images, num_candidates)
