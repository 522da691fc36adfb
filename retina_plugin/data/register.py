"""Data sets given by path in the config, and the number of classes taken from the data."""

import atexit
import json
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from ..errors import SetupError
from ..files import write_whole
from .coco_json import class_names_in_order, read_coco_json
from .formats.box_set import summarise_remarks
from .own_sets import OwnSet, read_own_sets

__all__ = ["ALLOW_OUTSIDE", "fill_num_classes", "known_class_names", "register_config_datasets"]

# Metadata: whether a set's paths may leave its image root. Detectron2 lets metadata be set only once, vars() does not.
ALLOW_OUTSIDE = "retina_allow_outside"
# Prefix of the two keys, name in the catalog, key that takes the name.
_SPLITS = (("TRAIN", "custom_train", "TRAIN"), ("VAL", "custom_val", "TEST"))
# Names that a later call may give to another set.
_OWN_NAMES = {name for _, name, _ in _SPLITS}


def register_config_datasets(cfg: CfgNode, folder: Path | None = None) -> None:
    """Register the data sets that ``cfg`` names by path, and put their names in ``cfg``.

    They take the place of ``DATASETS.TRAIN`` and ``DATASETS.TEST``. A later call with other paths replaces them.
    ``TRAIN_PATH``, ``VAL_PATH`` and ``OWN`` are read here and become COCO JSON; the files of ``TRAIN_JSON`` and
    ``VAL_JSON`` are looked at later, by ``check_datasets``. ``cfg`` must not be frozen.

    Args:
        cfg: a config with the plugin's keys.
        folder: where the COCO JSON of converted sets is kept; None for a temporary one, gone with the process.

    Raises:
        SetupError: keys that do not fit together, or a mistake in a file that is converted.
    """
    sets, class_names = read_own_sets(cfg)
    for use, key in (("train", "TRAIN"), ("val", "TEST")):
        names = tuple(part.name for part in sets if part.use == use)
        cfg.DATASETS[key] = names or cfg.DATASETS[key]
    for part in sets:
        _register_own(part, class_names, folder or _temporary_folder())
        _tell(part, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    for prefix, name, key in _SPLITS:
        if name not in [part.name for part in sets]:
            _register_json(cfg, prefix, name, key)
    own = [part.name for part in sets]  # whose paths have been looked at
    for name in {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} & set(DatasetCatalog):
        metadata = MetadataCatalog.get(name)
        if metadata.get(ALLOW_OUTSIDE) is not None:  # a second value would be refused
            delattr(metadata, ALLOW_OUTSIDE)
        metadata.set(**{ALLOW_OUTSIDE: cfg.DATASETS.ALLOW_OUTSIDE_PATHS or name in own})


def _register_json(cfg: CfgNode, prefix: str, name: str, key: str) -> None:
    json_file, image_root = cfg.DATASETS[f"{prefix}_JSON"], cfg.DATASETS[f"{prefix}_IMAGES"]
    if not json_file and not image_root:
        return
    if not json_file or not image_root:
        given, lacking = ("JSON", "IMAGES") if json_file else ("IMAGES", "JSON")
        needed = "the folder of its images" if lacking == "IMAGES" else "the COCO-format JSON file of its boxes"
        raise SetupError(
            f"DATASETS.{prefix}_{given} is {json_file or image_root!r}, but DATASETS.{prefix}_{lacking} is empty: "
            f"set it to {needed}."
        )
    _register(name, os.path.expanduser(json_file), os.path.expanduser(image_root))
    cfg.DATASETS[key] = (name,)


def _register_own(part: OwnSet, class_names: list[str], folder: Path) -> None:
    if part.name in DatasetCatalog and part.name not in _OWN_NAMES:
        raise SetupError(f"DATASETS.OWN names a set {part.name!r}, which is registered already: give it another name.")
    _OWN_NAMES.add(part.name)
    if part.content is None:
        _remove(part.name)
        DatasetCatalog.register(part.name, lambda: _refuse_missing(part))
        return
    path = folder / f"{part.name}.json"
    text = json.dumps(part.content.to_coco(class_names))
    try:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
            _remove(part.name)
    except OSError as error:
        raise SetupError(f"{path}, the COCO form of {part.path}, cannot be written: {error.strerror}.") from error
    _register(part.name, str(path), str(part.content.root))
    MetadataCatalog.get(part.name).thing_classes = class_names


def _refuse_missing(part: OwnSet) -> list[dict]:
    raise SetupError(f"{part.name}: {part.path} does not exist: give the folder or file of the boxes.")


def _tell(part: OwnSet, *, filter_empty: bool) -> None:
    logger = logging.getLogger(__name__)
    if part.content is None:
        logger.warning("%s: %s does not exist; classes are taken from the other sets", part.name, part.path)
        return
    logger.info("%s: %d images of %s", part.name, len(part.content.images), part.path)
    for sentence in summarise_remarks(part.content.remarks):
        logger.warning("%s: %s", part.name, sentence)
    empty = sum(not image.boxes for image in part.content.images)
    if empty and part.use == "train" and filter_empty:
        logger.warning(
            "%s: %d images without objects are left out of training; DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps "
            "them", part.name, empty,
        )  # fmt: skip


@cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="retina_datasets_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove(name: str) -> None:
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog:
            catalog.remove(name)


def _register(name: str, json_file: str, image_root: str) -> None:
    if name in DatasetCatalog:
        metadata = MetadataCatalog.get(name)
        if (metadata.get("json_file"), metadata.get("image_root")) == (json_file, image_root):
            return  # what has been loaded by now keeps its metadata
    _remove(name)
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
