"""Read the predictions that an evaluation wrote, as Detectron2's ``Instances``."""

import json
from collections import defaultdict
from pathlib import Path

import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

__all__ = ["read_coco_results"]


def read_coco_results(path: str | Path, dataset_name: str, records: list[dict]) -> list[Instances]:
    """Read COCO results JSON.

    Args:
        path: a ``coco_instances_results.json``.
        dataset_name: data set whose metadata maps category ids to classes.
        records: the images to return, in Detectron2's dataset format.

    Returns:
        one ``Instances`` per record, in original pixels, best score first; empty for an image without detections.
    """
    per_image = defaultdict(list)
    for result in json.loads(Path(path).read_text(encoding="utf-8")):
        per_image[result["image_id"]].append(result)
    class_of = MetadataCatalog.get(dataset_name).get("thing_dataset_id_to_contiguous_id") or {}
    instances = []
    for record in records:
        found = sorted(per_image[record["image_id"]], key=lambda result: -result["score"])
        boxes = torch.tensor([result["bbox"] for result in found]).reshape(-1, 4)
        instances.append(
            Instances(
                (record["height"], record["width"]),
                pred_boxes=Boxes(BoxMode.convert(boxes, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)),
                scores=torch.tensor([result["score"] for result in found]),
                pred_classes=torch.tensor(
                    [class_of.get(result["category_id"], result["category_id"]) for result in found], dtype=torch.long
                ),
            )
        )
    return instances
