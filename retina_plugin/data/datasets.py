"""Data sets given by path in the config, and the number of classes taken from the data."""

import logging
import os

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from ..errors import SetupError
from .coco_json import class_names_in_order, read_coco_json

__all__ = ["fill_num_classes", "known_class_names", "register_config_datasets"]

# Prefix of the two keys, name in the catalog, key that takes the name.
_SPLITS = (("TRAIN", "custom_train", "TRAIN"), ("VAL", "custom_val", "TEST"))


def register_config_datasets(cfg: CfgNode) -> None:
    """Register the sets of ``DATASETS.TRAIN_JSON`` / ``_IMAGES`` and ``VAL_...``, and put their names in ``cfg``.

    They take the place of ``DATASETS.TRAIN`` and ``DATASETS.TEST``. A later call with other paths replaces them. The
    files are looked at later, by ``check_datasets``. ``cfg`` must not be frozen.

    Raises:
        SetupError: a JSON file without a folder of images, or the reverse.
    """
    for prefix, name, key in _SPLITS:
        json_file, image_root = cfg.DATASETS[f"{prefix}_JSON"], cfg.DATASETS[f"{prefix}_IMAGES"]
        if not json_file and not image_root:
            continue
        if not json_file or not image_root:
            given, lacking = ("JSON", "IMAGES") if json_file else ("IMAGES", "JSON")
            needed = "the folder of its images" if lacking == "IMAGES" else "the COCO-format JSON file of its boxes"
            raise SetupError(
                f"DATASETS.{prefix}_{given} is {json_file or image_root!r}, but DATASETS.{prefix}_{lacking} is empty: "
                f"set it to {needed}."
            )
        _register(name, os.path.expanduser(json_file), os.path.expanduser(image_root))
        cfg.DATASETS[key] = (name,)


def _register(name: str, json_file: str, image_root: str) -> None:
    if name in DatasetCatalog:
        metadata = MetadataCatalog.get(name)
        if (metadata.get("json_file"), metadata.get("image_root")) == (json_file, image_root):
            return  # what has been loaded by now keeps its metadata
        DatasetCatalog.remove(name)
    if name in MetadataCatalog:
        MetadataCatalog.remove(name)
    register_coco_instances(name, {}, json_file, image_root)


def fill_num_classes(cfg: CfgNode) -> None:
    """Replace ``NUM_CLASSES: 0`` of RETINANET and ROI_HEADS by the number of classes of the data; another number stays.

    The first set of DATASETS.TRAIN counts, or of DATASETS.TEST if there is none to train on.

    Raises:
        SetupError: there is no set, or none that tells its classes.
    """
    nodes = [node for node in (cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS) if node.NUM_CLASSES == 0]
    if not nodes:
        return
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise SetupError("MODEL.RETINANET.NUM_CLASSES is 0 (count the data's), but DATASETS.TRAIN and TEST are empty.")
    # An evaluation may run where the training set is not.
    name = next((n for n in names if _has_classes(n)), names[0])
    class_names = _class_names(name)
    for node in nodes:
        node.NUM_CLASSES = len(class_names)
    logging.getLogger(__name__).info(
        "NUM_CLASSES = %d, the classes of %s: %s", len(class_names), name, ", ".join(class_names)
    )


def known_class_names(name: str) -> list[str]:
    """The classes of a data set in order; [] if it is not registered or nothing of it is there that tells them.

    Raises:
        SetupError: its JSON file is there and cannot be used.
    """
    return _class_names(name) if _has_classes(name) else []


def _has_classes(name: str) -> bool:
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    return metadata is not None and (
        bool(metadata.get("thing_classes")) or os.path.isfile(str(metadata.get("json_file", "")))
    )


def _class_names(name: str) -> list[str]:
    if name not in DatasetCatalog:
        raise SetupError(f"DATASETS names {name!r}, which is not registered: MODEL.RETINANET.NUM_CLASSES cannot be 0.")
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes"):
        return list(metadata.thing_classes)
    if metadata.get("json_file"):
        return class_names_in_order(read_coco_json(name, metadata.json_file))
    raise SetupError(f"{name} does not tell its classes: set MODEL.RETINANET.NUM_CLASSES, or its thing_classes.")
