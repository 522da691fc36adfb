"""The names of a detector's classes, from its checkpoint or its data sets."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm

from ..errors import SetupError
from .register import known_class_names

__all__ = ["config_class_names", "find_class_names"]

logger = logging.getLogger(__name__)


def config_class_names(cfg: CfgNode) -> list[str] | None:
    """Return the names of the config's classes by class id; None if no registered data set has NUM_CLASSES of them."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name not in DatasetCatalog:
            continue
        if not MetadataCatalog.get(name).get("thing_classes") and not comm.is_main_process():
            DatasetCatalog.get(name)  # only the main process has checked the sets, which reads their names
        names = MetadataCatalog.get(name).get("thing_classes")
        if names and len(names) == cfg.MODEL.RETINANET.NUM_CLASSES:
            return [str(name) for name in names]
    return None


def find_class_names(cfg: CfgNode, checkpoint: dict[str, Any]) -> tuple[str, ...]:
    """K names: from the checkpoint's manifest, else from a data set of ``cfg``, else "0" to "K - 1".

    Names of another number than ``MODEL.RETINANET.NUM_CLASSES`` belong to another detector and are not used.

    Args:
        cfg: with its data sets registered.
        checkpoint: what the file holds besides the model; ``["manifest"]["classes"]`` lists the names in order.
    """
    num_classes = cfg.MODEL.RETINANET.NUM_CLASSES
    manifest = checkpoint.get("manifest")
    names = manifest.get("classes") if isinstance(manifest, dict) else None
    for source in ("the checkpoint's manifest", *dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])):
        if source in DatasetCatalog:
            try:
                names = known_class_names(source)
            except SetupError as error:  # the classes may be known without this set
                logger.warning("%s", error)
                continue
        if names and len(names) == num_classes:
            return tuple(map(str, names))
        if names:
            logger.warning(
                "%s names %d classes, but the detector has %d: its names are not used", source, len(names), num_classes
            )
        names = None
    logger.warning("nothing names the classes of this checkpoint: they are shown as numbers from 0 on")
    return tuple(map(str, range(num_classes)))
