"""Test-time augmentation (TEST.AUG): detect in resized and mirrored copies of an image, and merge by NMS."""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import batched_nms

__all__ = ["with_augmentation"]


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap the detector in test-time augmentation: Detectron2's for two-stage models, else ``RetinaNetWithTTA``."""
    return GeneralizedRCNNWithTTA(cfg, model) if isinstance(model, GeneralizedRCNN) else RetinaNetWithTTA(cfg, model)


class RetinaNetWithTTA(nn.Module):
    """A dense detector with test-time augmentation, called like the detector in evaluation mode.

    Detectron2's ``GeneralizedRCNNWithTTA`` merges before its second stage, which RetinaNet lacks. Here the detector
    runs on each copy of the image separately, the boxes are mapped back, and one more NMS removes duplicates.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        """
        Args:
            cfg: one copy for each of TEST.AUG.MIN_SIZES, at most TEST.AUG.MAX_SIZE px long, and its mirror image with
                TEST.AUG.FLIP. NMS threshold and number of detections are the detector's.
            model: Detectron2's RetinaNet or a FocalRetinaNet.
        """
        super().__init__()
        self._model = model
        self._mapper = DatasetMapperTTA(cfg)
        self._nms_thresh = cfg.MODEL.RETINANET.NMS_THRESH_TEST
        self._max_detections = cfg.TEST.DETECTIONS_PER_IMAGE

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Instances]]:
        """Detect in each image.

        Args:
            batched_inputs: as for the model: ``image`` (C, H, W), uint8, best in its original size, and ``height`` and
                ``width`` of the output, by default those of ``image``.

        Returns:
            ``instances`` for each image, in the frame of height and width.
        """
        outputs = []
        for one in batched_inputs:
            size = one["image"].shape[1:]
            one = {"image": one["image"], "height": one.get("height", size[0]), "width": one.get("width", size[1])}
            found = []
            for copy in self._mapper(one):  # one at a time: a batch would be padded to its largest copy
                # Without height and width the detections stay in the frame of the copy.
                instances = self._model([{"image": copy["image"]}])[0]["instances"]
                boxes = copy["transforms"].inverse().apply_box(instances.pred_boxes.tensor.cpu().numpy())
                instances = instances.to(self._model.device)
                merged = Instances((one["height"], one["width"]))
                merged.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32, device=self._model.device))
                merged.scores, merged.pred_classes = instances.scores, instances.pred_classes
                found.append(merged)
            instances = Instances.cat(found)
            instances.pred_boxes.clip(instances.image_size)
            # Indices by descending score.
            keep = batched_nms(instances.pred_boxes.tensor, instances.scores, instances.pred_classes, self._nms_thresh)
            outputs.append({"instances": instances[keep[: self._max_detections]]})
        return outputs
