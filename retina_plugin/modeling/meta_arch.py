"""``FocalRetinaNet``: Detectron2's RetinaNet with the loss, the labelling and the divisor made exchangeable.

N images, R anchors of an image over all levels, K classes, as in Detectron2's ``retinanet.py``. Backbone, head,
decoding and inference are Detectron2's (paper Sec. 4).
"""

import math
from contextlib import nullcontext

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from .. import ops
from ..errors import SetupError, require_one_of, require_retina_config
from ..ops.matching import AnchorTiles
from .box_loss import BOX_REG_LOSS_TYPES, box_regression_losses
from .execution import PRECISIONS, use_winograd
from .losses import ClassificationLoss, build_classification_loss
from .matcher import SafeMatcher
from .normalizer import LossNormalizer
from .trainer_keys import set_trainer_keys, warn_of_unread_keys

__all__ = ["FocalRetinaNet"]


@META_ARCH_REGISTRY.register()
class FocalRetinaNet(RetinaNet):
    """RetinaNet of "Focal Loss for Dense Object Detection"; a drop-in for Detectron2's ``RetinaNet``.

    State-dict keys and shapes are Detectron2's, so its checkpoints load without conversion.
    """

    @configurable
    def __init__(
        self,
        *,
        cls_loss: ClassificationLoss,
        loss_normalizer: LossNormalizer,
        precision: str = "fp32",
        unread_keys: dict[str, str] | None = None,
        **retinanet,
    ):
        """
        Args:
            cls_loss: the classification loss.
            loss_normalizer: the divisor of both losses.
            precision: "fp32", "winograd" or "bf16": see ``MODEL.PRECISION``.
            unread_keys: keys that the config sets for a trainer (``set_trainer_keys``); the first training step warns
                of those that no trainer has claimed.
            retinanet: the arguments of Detectron2's ``RetinaNet``, without ``focal_loss_alpha`` and
                ``focal_loss_gamma``, which belong to ``cls_loss``.
        """
        super().__init__(**retinanet)
        require_one_of(self.box_reg_loss_type, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", BOX_REG_LOSS_TYPES)
        require_one_of(precision, "MODEL.PRECISION", PRECISIONS)
        # RetinaNet's own defaults, which cls_loss does not read.
        del self.focal_loss_alpha, self.focal_loss_gamma
        self.cls_loss = cls_loss
        self.loss_normalizer = loss_normalizer
        self.precision = precision
        self.unread_keys = unread_keys or {}
        if precision == "winograd":
            use_winograd(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        require_retina_config(cfg)
        if cfg.MODEL.RETINANET.NUM_CLASSES < 1:
            raise SetupError(
                f"MODEL.RETINANET.NUM_CLASSES must be >= 1 to build a model, got {cfg.MODEL.RETINANET.NUM_CLASSES}: "
                "train_net.py takes the data's number for 0, your own code has to set it"
            )
        arguments = super().from_config(cfg)
        del arguments["focal_loss_alpha"], arguments["focal_loss_gamma"]
        retinanet = cfg.MODEL.RETINANET
        if not retinanet.USE_PRIOR:
            nn.init.zeros_(arguments["head"].cls_score.bias)
        arguments["anchor_matcher"] = SafeMatcher(
            retinanet.IOU_THRESHOLDS,
            retinanet.IOU_LABELS,
            allow_low_quality_matches=retinanet.ALLOW_LOW_QUALITY_MATCHES,
            low_quality_min_iou=retinanet.LOW_QUALITY_MIN_IOU,
        )
        return {
            **arguments,
            "cls_loss": build_classification_loss(cfg),
            "loss_normalizer": LossNormalizer(cfg),
            "precision": cfg.MODEL.PRECISION,
            "unread_keys": set_trainer_keys(cfg),
        }

    def forward(self, batched_inputs: list[dict]):
        """Run Detectron2's forward; in training, check the class ids and draw a picture every ``VIS_PERIOD``.

        Raises:
            ValueError: an image has no ground truth, or a class outside [0, K); Detectron2 takes K for background.
        """
        with torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext():
            if not self.training:
                return super().forward(batched_inputs)
            if self.unread_keys and torch.is_grad_enabled():
                warn_of_unread_keys(self.unread_keys)
            self._check_ground_truth(batched_inputs)
            losses = super().forward(batched_inputs)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            # Boxes that are not finite cannot be drawn; the trainer reports them.
            if all(torch.isfinite(loss) for loss in losses.values()):
                self._draw_training_image(batched_inputs[:1])
        return losses

    @torch.no_grad()
    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]) -> tuple[list[Tensor], list[Tensor]]:
        """Label the anchors as Detectron2 does, without its matrix of the IoU of every box with every anchor.

        Args:
            anchors: per level (Hi*Wi*A, 4).
            gt_instances: of N images, with ``gt_boxes`` and ``gt_classes``; without any, all anchors are background.

        Returns:
            N tensors (R,): [0, K) positive, K background, -1 ignored; and N tensors (R, 4), meaningful where positive.
        """
        matcher = self.anchor_matcher
        if not isinstance(matcher, SafeMatcher) or type(matcher).__call__ is not Matcher.__call__:
            return super().label_anchors(anchors, gt_instances)  # another matcher needs the whole matrix
        all_anchors = Boxes.cat(anchors).tensor
        tiles = AnchorTiles(all_anchors)
        gt_labels, matched_gt_boxes = [], []
        for gt_per_image in gt_instances:
            if len(gt_per_image) == 0:
                gt_labels.append(torch.full((len(all_anchors),), self.num_classes, device=all_anchors.device))
                matched_gt_boxes.append(torch.zeros_like(all_anchors))
                continue
            overlaps, match_labels = matcher.match_boxes(tiles, gt_per_image.gt_boxes.tensor)
            gt_labels_i = gt_per_image.gt_classes[overlaps.box]
            gt_labels_i[match_labels == 0] = self.num_classes
            gt_labels_i[match_labels == -1] = -1
            gt_labels.append(gt_labels_i)
            matched_gt_boxes.append(gt_per_image.gt_boxes.tensor[overlaps.box])
        return gt_labels, matched_gt_boxes

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Sum each of the paper's two losses over the anchors and divide it by the normalizer (Sec. 4.1).

        Args:
            anchors: per level (Hi*Wi*A, 4).
            pred_logits, pred_anchor_deltas: per level (N, Hi*Wi*A, K) and (N, Hi*Wi*A, 4).
            gt_labels: N tensors (R,): [0, K) positive, K background, -1 ignored.
            gt_boxes: N tensors (R, 4), meaningful where positive.

        Returns:
            ``loss_cls`` and ``loss_box_reg``, 0-dim.
        """
        labels, logits, deltas = torch.stack(gt_labels), torch.cat(pred_logits, dim=1), torch.cat(pred_anchor_deltas, 1)
        boxes = Boxes.cat(anchors).tensor, torch.stack(gt_boxes)
        if self.cls_loss.miner is not None:
            labels = self._mine(labels, logits, deltas, *boxes)
        pos_mask = (labels >= 0) & (labels != self.num_classes)
        # A minibatch of hard examples is averaged; otherwise the positive anchors count.
        normalizer = self.loss_normalizer((pos_mask if self.cls_loss.miner is None else labels >= 0).sum())
        loss_cls = self.cls_loss(logits, labels, divisor=normalizer)
        box_losses = self._box_losses(pos_mask, deltas, *boxes)
        # len() costs nothing: counting the mask would make the host wait for a GPU once more.
        get_event_storage().put_scalar("num_pos_anchors", len(box_losses) / len(labels))
        return {"loss_cls": loss_cls, "loss_box_reg": box_losses.sum() / normalizer}

    @torch.no_grad()
    def _mine(self, labels: Tensor, logits: Tensor, deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Set the labels (N, R) of the examples that ``cls_loss.miner`` leaves out to -1 (Sec. 5.1)."""
        miner = self.cls_loss.miner
        losses = ops.anchor_losses(logits, labels, self.cls_loss.value, alpha=self.cls_loss.alpha)
        if miner.score == "total":
            pos_mask = (labels >= 0) & (labels != self.num_classes)
            losses[pos_mask] += self._box_losses(pos_mask, deltas, anchors, gt_boxes).to(losses.dtype)
        boxes = anchors.expand_as(gt_boxes)
        if miner.nms_boxes == "decoded":
            boxes = torch.stack([self.box2box_transform.apply_deltas(deltas_i, anchors) for deltas_i in deltas])
        return miner(labels, losses, boxes, num_classes=self.num_classes)

    def _box_losses(self, pos_mask: Tensor, deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Compute the losses (P,) in ``pos_mask`` (N, R) for anchors (R, 4), deltas and gt_boxes (N, R, 4)."""
        return box_regression_losses(
            deltas[pos_mask],
            anchors.expand_as(gt_boxes)[pos_mask],
            gt_boxes[pos_mask],
            transform=self.box2box_transform,
            loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        """Detect as Detectron2 does, without the anchors whose centre lies in an image's padding.

        Args:
            images: N images, padded to one size.
            features: per level (N, C, Hi, Wi).
            predictions: logits and deltas, each per level (N, A*K, Hi, Wi) and (N, A*4, Hi, Wi).

        Returns:
            N ``Instances`` with ``pred_boxes``, ``scores`` and ``pred_classes``, in the frame of the resized image.
        """
        logits, deltas = self._transpose_dense_predictions(predictions, [self.num_classes, 4])
        anchors = self.anchor_generator(features)
        return [
            self.inference_single_image(anchors, [x[i] for x in logits], [x[i] for x in deltas], image_size)
            for i, image_size in enumerate(images.image_sizes)
        ]

    def _decode_per_level_predictions(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, score_thresh: float, topk_candidates: int,
        image_size: tuple[int, int],
    ) -> Instances:  # fmt: skip
        """Decode the best candidates of a level in fp32, from logits where Detectron2's takes scores.

        Args:
            logits, deltas: (Hi*Wi*A, K) and (Hi*Wi*A, 4).
            image_size: height and width without padding; a tensor (2,) while the model is traced.
        """
        # Compare logits first, with a margin for rounding: the sigmoid then runs on few, and the score itself decides.
        bound = math.log(score_thresh / (1 - score_thresh)) - 0.01 if 0 < score_thresh < 1 else -math.inf
        anchor_idxs, class_idxs = (logits > bound).nonzero(as_tuple=True)
        scores = logits[anchor_idxs, class_idxs].float().sigmoid()
        # Sizes and counts are indexed and taken from shapes, or they would become constants of a trace.
        x, y = anchors[anchor_idxs].get_centers().unbind(dim=1)
        keep = (scores > score_thresh) & (x < image_size[1]) & (y < image_size[0])
        scores, anchor_idxs, class_idxs = scores[keep], anchor_idxs[keep], class_idxs[keep]
        count = scores.shape[0]  # a tensor while the model is traced
        count = count.clamp(max=topk_candidates) if isinstance(count, Tensor) else min(count, topk_candidates)
        scores, best = scores.topk(count)
        anchor_idxs = anchor_idxs[best]
        boxes = self.box2box_transform.apply_deltas(deltas[anchor_idxs].float(), anchors.tensor[anchor_idxs])
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=class_idxs[best])

    def _check_ground_truth(self, batched_inputs: list[dict]) -> None:
        # On the loader's CPU tensors, before they move to a device that the host would wait for.
        for image in batched_inputs:
            if "instances" not in image:
                raise ValueError(
                    f"{image.get('file_name', 'an image')} comes without 'instances', which training needs: "
                    "build its data mapper with is_train=True"
                )
            gt_classes = image["instances"].gt_classes
            outside = gt_classes[(gt_classes < 0) | (gt_classes >= self.num_classes)]
            if len(outside):
                raise ValueError(
                    f"ground-truth class {outside[0].item()} of {image.get('file_name', 'an image')} is outside "
                    f"[0, {self.num_classes}): set MODEL.RETINANET.NUM_CLASSES to the data set's number of classes"
                )

    @torch.no_grad()
    def _draw_training_image(self, batched_inputs: list[dict]) -> None:
        """Put a picture of the first image's ground truth and detections into the event storage."""
        training = {module: module.training for module in self.modules()}  # some may be in eval mode, as frozen BN is
        self.eval()
        try:
            # Without height and width, the detections stay in the frame of the resized image, as the boxes are.
            results = super().forward([{"image": image["image"]} for image in batched_inputs])
        finally:
            for module, mode in training.items():
                module.training = mode
        self.visualize_training(batched_inputs, [result["instances"].to("cpu") for result in results])
