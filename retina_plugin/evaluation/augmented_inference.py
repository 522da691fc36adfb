"""``RetinaNetWithTTA``: one image in several sizes and mirrored, its detections merged by NMS (TEST.AUG)."""

import torch
from detectron2.config import CfgNode
from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import batched_nms

__all__ = ["RetinaNetWithTTA", "with_augmentation"]


def with_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap the detector in test-time augmentation: Detectron2's for two stages, else ``RetinaNetWithTTA``."""
    return GeneralizedRCNNWithTTA(cfg, model) if isinstance(model, GeneralizedRCNN) else RetinaNetWithTTA(cfg, model)


class RetinaNetWithTTA(nn.Module):
    """A dense detector with test-time augmentation, called like the detector in evaluation mode.

    Detectron2's ``GeneralizedRCNNWithTTA`` merges before its second stage, which RetinaNet lacks. Here the detector
    runs on each copy of the image alone, the boxes are mapped back, and a last NMS removes duplicates among the copies.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module):
        """
        Args:
            cfg: TEST.AUG.MIN_SIZES x (2 if TEST.AUG.FLIP) copies of at most TEST.AUG.MAX_SIZE px; the NMS threshold
                and the number of detections are those of the detector.
            model: a RetinaNet of Detectron2's or a FocalRetinaNet.
        """
        super().__init__()
        self._model = model
        self._mapper = DatasetMapperTTA(cfg)
        self._nms_thresh = cfg.MODEL.RETINANET.NMS_THRESH_TEST
        self._max_detections = cfg.TEST.DETECTIONS_PER_IMAGE

    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Instances]]:
        """
        Args:
            batched_inputs: as for the model: ``image`` (C, H, W), uint8, best in its original size, and ``height`` and
                ``width`` of the output, by default those of ``image``.

        Returns:
            for each image ``instances``, in the frame of height and width.
        """
        return [{"instances": self._detect(one)} for one in batched_inputs]

    @torch.no_grad()
    def _detect(self, one: dict) -> Instances:
        size = one["image"].shape[1:]
        one = {"image": one["image"], "height": one.get("height", size[0]), "width": one.get("width", size[1])}
        found = []
        for copy in self._mapper(one):  # one at a time: together they would be padded to the largest
            transforms = copy["transforms"]
            # Without height and width the detections stay in the frame of the copy.
            instances = self._model([{"image": copy["image"]}])[0]["instances"]
            boxes = transforms.inverse().apply_box(instances.pred_boxes.tensor.cpu().numpy())
            instances = instances.to(self._model.device)
            merged = Instances((one["height"], one["width"]))
            merged.pred_boxes = Boxes(torch.as_tensor(boxes, dtype=torch.float32, device=self._model.device))
            merged.scores, merged.pred_classes = instances.scores, instances.pred_classes
            found.append(merged)
        instances = Instances.cat(found)
        instances.pred_boxes.clip(instances.image_size)
        keep = batched_nms(
            instances.pred_boxes.tensor, instances.scores, instances.pred_classes, self._nms_thresh
        )  # by descending score
        return instances[keep[: self._max_detections]]
