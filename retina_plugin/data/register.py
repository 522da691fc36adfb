"""Data sets given by path, registered with Detectron2, and the number of classes taken from the data."""

import atexit
import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from ..errors import SetupError, count, name_some
from ..files import write_whole
from .coco import class_names_in_order, find_group, names_with_boxes, read_coco_json
from .formats import FORMATS, read_boxes
from .formats.box_set import BoxSet, Remark, join_sets, order_classes, summarise_remarks
from .formats.files import read_names
from .formats.parts import part_of
from .split import split_set

__all__ = [
    "allows_outside", "as_paths", "fill_num_classes", "keep_converted", "known_class_names", "register_boxes",
    "register_config_datasets", "source_of",
]  # fmt: skip

# Prefix of the config's keys, name in the catalog, key of DATASETS that takes the name.
_SPLITS = (("TRAIN", "custom_train", "TRAIN"), ("VAL", "custom_val", "TEST"))
# Sets of the shipped configs; one stays beside a set of the user's only if it is on this machine and has its classes.
SHIPPED_SETS = (
    "coco_2017_train", "coco_2017_val", "retina_sample_train", "retina_sample_val", "retina_sparse_train",
    "retina_sparse_val",
)  # fmt: skip
# Pascal VOC's list of a validation part.
_OWN_LIST = "ImageSets/Main/val.txt"
# Names of the sets that were converted: their reader has checked the paths of the images.
_converted: dict[str, str] = {}  # name -> the folder or file that was converted
# Names of other sets whose paths may leave their image folder, by the last config that named them.
_allowed_outside: set[str] = set()


def allows_outside(name: str) -> bool:
    """True if the annotations of a registered set may name images outside their folder."""
    return name in _converted or name in _allowed_outside


def source_of(name: str) -> str:
    """Return where the boxes of a registered set come from: the folder or file that was converted, or its JSON file."""
    return _converted.get(name) or str(MetadataCatalog.get(name).json_file)


def register_boxes(
    name: str,
    path: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    file_format: str = "auto",
    images: str | os.PathLike | None = None,
    subset: str = "",
    classes: Sequence[str] | None = None,
    allow_outside: bool = False,
) -> list[str]:
    """Read boxes in any of the known formats and register them as the data set ``name``.

        register_boxes("lab", "cells/voc", classes=["red", "white"])
        register_boxes("clinic", "clinic/data.yaml", classes=["red", "white"])
        cfg.DATASETS.TRAIN = ("lab", "clinic")

    Args:
        name: new in Detectron2's catalog.
        path: a file or folder, or several that make one set.
        file_format: coco, voc, yolo, labelme, csv, or auto to find out.
        images: folder of the images, where the format's usual place is not theirs.
        subset: "train" or "val": that part of it, if it says which that is; "" for everything.
        classes: class names in their order, the same for all sets of a config; None takes those of the set.
        allow_outside: take images that the annotations name outside the folder of the images.

    Returns:
        the class names in their order.

    Raises:
        SetupError: a file with its line, or a name that is taken.
    """
    if name in DatasetCatalog:
        raise SetupError(f"A data set {name!r} is registered already: give this one another name.")
    content = _read(
        as_paths(path), file_format, images=images, subset=subset, classes=classes, allow_outside=allow_outside
    )
    if not content.class_names:
        raise SetupError(f"{content.source} has no box in any image: there is no class to learn.")
    _register_content(name, content, content.class_names, _temporary_folder())
    return content.class_names


def register_config_datasets(
    cfg: CfgNode, folder: Path | None = None, *, weights_classes: Sequence[str] = (), defer_faults: bool = False
) -> None:
    """Register the data sets that ``cfg`` names by path, and put their names in ``cfg``.

    They take the place of ``DATASETS.TRAIN`` and ``DATASETS.TEST``. A later call with other paths replaces them.
    ``TRAIN_PATH`` and ``VAL_PATH`` are read here and become COCO JSON; the files of ``TRAIN_JSON`` and ``VAL_JSON`` are
    looked at later, by ``check_datasets``, unless their classes have to be put in another order. A set that a shipped
    config names is no longer used beside one of the user's. ``cfg`` must not be frozen.

    Classes of names files come first, in their order; others follow by name. A missing path is ignored as
    long as the other key's is there, since an evaluation may run where the training set is not.

    Args:
        cfg: a config with the plugin's keys.
        folder: where the COCO JSON of converted sets is kept; None for a temporary one, gone with the process.
        weights_classes: classes of the detector that is evaluated, in their order: those of the sets, if all of a set's
            that have boxes are among them.
        defer_faults: a set that cannot be read raises only once it is used, so that others can be examined.

    Raises:
        SetupError: keys that do not fit together, or a mistake in a file that is converted.
    """
    _check_values(cfg.DATASETS)
    logger = logging.getLogger(__name__)
    sets = _read_sets(cfg.DATASETS, weights_classes, defer_faults=defer_faults)
    contents = [content for content in sets.values() if isinstance(content, BoxSet)]
    for content in contents if weights_classes else ():
        _leave_out_unknown(content, set(weights_classes))
    class_names = order_classes(contents)
    if contents and not class_names:
        raise SetupError(f"{contents[0].source} has no box in any image: there is no class to learn.")
    if set(class_names) <= set(weights_classes):
        class_names = list(weights_classes)
    for prefix, name, key in _SPLITS:
        content = sets.get(name)
        if content is None:
            json_file, image_root = cfg.DATASETS[f"{prefix}_JSON"], cfg.DATASETS[f"{prefix}_IMAGES"]
            if not json_file and not image_root:
                continue
            if not json_file or not image_root:
                given, lacking = ("JSON", "IMAGES") if json_file else ("IMAGES", "JSON")
                needed = "the folder of its images" if json_file else "the COCO-format JSON file of its boxes"
                raise SetupError(
                    f"DATASETS.{prefix}_{given} is {json_file or image_root!r}, but DATASETS.{prefix}_{lacking} is "
                    f"empty: set it to {needed}."
                )
            _converted.pop(name, None)
            _register(name, os.path.expanduser(json_file), os.path.expanduser(image_root))
        elif isinstance(content, BoxSet):
            _register_content(name, content, class_names, folder or _temporary_folder())
            empty = sum(not image.boxes for image in content.images)
            if empty and prefix == "TRAIN" and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
                logger.warning(
                    "%s: %s without objects %s left out of training; DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps "
                    "%s", name, count(empty, "image"), *(("is", "it") if empty == 1 else ("are", "them")),
                )  # fmt: skip
        else:
            _remove(name)
            DatasetCatalog.register(name, partial(_refuse, content))
            logger.warning("%s: %s Classes are taken from the other sets.", name, content)
        cfg.DATASETS[key] = (name,)
    drop_shipped_sets(cfg)
    change = _allowed_outside.update if cfg.DATASETS.ALLOW_OUTSIDE_PATHS else _allowed_outside.difference_update
    change((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))


def drop_shipped_sets(cfg: CfgNode) -> None:
    """Empty DATASETS.TRAIN or TEST that a shipped config has set, if the other has sets of the user's."""
    for key, other in (("TEST", "TRAIN"), ("TRAIN", "TEST")):
        names, own = tuple(cfg.DATASETS[key]), tuple(cfg.DATASETS[other])
        if not names or not set(names) <= set(SHIPPED_SETS) or not set(own) - set(SHIPPED_SETS):
            continue
        with contextlib.suppress(SetupError):  # the user's file is looked at later
            classes = known_class_names(own[0])
            here = all(os.path.isfile(str(MetadataCatalog.get(name).get("json_file", ""))) for name in names)
            if here and all(known_class_names(name) == classes for name in names):
                continue
        cfg.DATASETS[key] = ()
        if key == "TEST":
            cfg.TEST.EVAL_PERIOD = 0
            logging.getLogger(__name__).warning(
                "nothing to validate on: no AP will be computed; DATASETS.VAL_FRACTION 0.2 keeps a fifth of the images "
                "back, DATASETS.VAL_PATH names a set"
            )


def _check_values(node: CfgNode) -> None:
    formats = ("auto", *FORMATS)
    if node.FORMAT not in formats:
        raise SetupError(f"DATASETS.FORMAT must be one of {', '.join(formats)}, got {node.FORMAT!r}.")
    if not 0 <= node.VAL_FRACTION < 1:
        raise SetupError(f"DATASETS.VAL_FRACTION must be in [0, 1), got {node.VAL_FRACTION:g}: 0.2 is a fifth.")
    for prefix in ("TRAIN", "VAL"):
        if node[f"{prefix}_PATH"] and node[f"{prefix}_JSON"]:
            raise SetupError(f"DATASETS.{prefix}_PATH and DATASETS.{prefix}_JSON are both set: give one of them.")
    if not node.VAL_FRACTION:
        return
    if taken := next((key for key in ("VAL_PATH", "VAL_JSON") if node[key]), None):
        raise SetupError(
            f"DATASETS.VAL_FRACTION is {node.VAL_FRACTION:g}, but DATASETS.{taken} names a set to validate on: "
            "give one of them."
        )
    if not node.TRAIN_PATH and not node.TRAIN_JSON:
        raise SetupError("DATASETS.VAL_FRACTION needs DATASETS.TRAIN_PATH, the set to split.")


def _read_sets(node: CfgNode, weights_classes: Sequence[str], *, defer_faults: bool) -> dict[str, BoxSet | SetupError]:
    """Read TRAIN_PATH and VAL_PATH, or the files of JSON keys that are to be split or have other classes.

    Returns:
        by the name in the catalog; in place of a set that is missing, or is not to be looked at now, the sentence.
    """
    by_json = node.VAL_FRACTION > 0 and not node.TRAIN_PATH
    keys = ("TRAIN_JSON",) if by_json else ("TRAIN_PATH", "VAL_PATH")
    given = {key: as_paths(node[key]) for key in keys if node[key]}
    classes = [node.CLASSES] if isinstance(node.CLASSES, str) and node.CLASSES else list(node.CLASSES)
    if len(classes) == 1 and isinstance(classes[0], str) and Path(classes[0]).suffix:
        classes = read_names(Path(os.path.expanduser(classes[0])))
    if not all(isinstance(name, str) and name for name in classes) or len(set(classes)) != len(classes):
        raise SetupError(f"DATASETS.CLASSES must be different names, or a file of them, got {node.CLASSES!r}.")
    nothing_here = not any(path.exists() for paths in given.values() for path in paths)
    for prefix in () if by_json else ("TRAIN", "VAL"):
        json_file = os.path.expanduser(node[f"{prefix}_JSON"])
        if node[f"{prefix}_IMAGES"] and os.path.isfile(json_file):
            wanted = classes or list(weights_classes)
            with contextlib.suppress(SetupError):  # the file is looked at later
                content = read_coco_json(json_file, json_file)
                names = class_names_in_order(content)
                fits = bool(set(names) & set(wanted)) and names_with_boxes(content) <= set(wanted)
                if names != wanted and (fits or find_group(content)):
                    given[f"{prefix}_JSON"] = (Path(json_file),)
    sets: dict[str, BoxSet | SetupError] = {}
    for key, paths in given.items():
        prefix, kind = key.split("_")
        missing = [path for path in paths if not path.exists()]
        if missing and (nothing_here or len(missing) < len(paths)):
            verb = "is" if len(paths) == 1 else "names"
            raise SetupError(
                f"DATASETS.{key} {verb} {missing[0]}, which does not exist: give the folder or file of the boxes."
            )
        name = f"custom_{prefix.lower()}"
        if missing:
            sets[name] = SetupError(f"{name}: {missing[0]} does not exist: give the folder or file of the boxes.")
            continue
        try:
            sets[name] = _read(
                paths,
                "coco" if kind == "JSON" else node.FORMAT,
                images=node[f"{prefix}_IMAGES"],
                subset="" if node.VAL_FRACTION else prefix.lower(),
                classes=classes,
                allow_outside=node.ALLOW_OUTSIDE_PATHS,
                checked_later=True,
            )
        except SetupError as error:
            if not defer_faults:
                raise
            sets[name] = error
    if defer_faults and any(isinstance(content, SetupError) for content in sets.values()):
        return {"custom_val": sets["custom_train"], **sets} if node.VAL_FRACTION else sets
    train, val = sets.get("custom_train"), sets.get("custom_val")
    if node.VAL_FRACTION:
        own = [path / _OWN_LIST for path in given[keys[0]] if (path / _OWN_LIST).exists()]
        for path in given[keys[0]]:
            own += [image.path for image in train.images if part_of(image.path, path) in ("val", "test")]
        if found := next(iter(own), None):
            what = "its own split is not used, VAL_FRACTION draws another (the same path in VAL_PATH takes its own)"
            train.remarks.append(Remark(what, str(found)))
        halves = split_set(train, node.VAL_FRACTION, node.SPLIT_SEED, node.SPLIT_GROUP)
        return dict(zip(("custom_train", "custom_val"), halves, strict=True))
    both = isinstance(train, BoxSet) and isinstance(val, BoxSet)
    if both and {image.path for image in train.images} == {image.path for image in val.images}:
        raise SetupError(
            f"DATASETS.VAL_PATH {val.source} has the same images to train and to validate on, and says of no part that "
            "it is for validation: set DATASETS.VAL_FRACTION 0.2 in its place, or name two folders."
        )
    return sets


def _leave_out_unknown(content: BoxSet, known: set[str]) -> None:
    """Leave classes without boxes that the detector does not know out of an evaluated set, if it knows all others."""
    boxed = set(content.class_counts)
    unknown = [name for name in content.class_names if name not in known | boxed]
    if unknown and boxed <= known and len(unknown) < len(content.class_names):
        content.given_classes = [name for name in content.class_names if name not in unknown]
        what = f"not evaluated, since no box has it and the detector does not know it: {name_some(unknown)}"
        content.remarks.append(Remark(what, content.source))


def _read(
    paths: Sequence[Path],
    file_format: str,
    *,
    images: str | os.PathLike | None,
    classes: Sequence[str] | None,
    **options,
) -> BoxSet:
    folder = Path(os.path.expanduser(images)) if images else None
    names = list(classes) if classes else None
    return join_sets([read_boxes(path, file_format, images=folder, classes=names, **options) for path in paths])


def as_paths(path: str | os.PathLike | Sequence[str | os.PathLike]) -> tuple[Path, ...]:
    """Return the path or paths of a config key, ``~`` replaced."""
    several = [path] if isinstance(path, (str, os.PathLike)) else path
    return tuple(Path(os.path.expanduser(each)) for each in several)


def _register_content(name: str, content: BoxSet, class_names: list[str], folder: Path) -> None:
    """Write the COCO form of a set, register it, and log its remarks."""
    path = folder / f"{name}.json"
    text = json.dumps(content.to_coco(class_names))
    try:
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text)
            _remove(name)
    except OSError as error:
        raise SetupError(f"{path}, the COCO form of {content.source}, cannot be written: {error.strerror}.") from error
    _register(name, str(path), str(content.root))
    MetadataCatalog.get(name).thing_classes = class_names
    _converted[name] = content.source
    logger = logging.getLogger(__name__)
    logger.info("%s: %s of %s", name, count(len(content.images), "image"), content.source)
    for sentence in summarise_remarks(content.remarks):
        logger.warning("%s: %s", name, sentence)


def _refuse(fault: SetupError) -> list[dict]:
    raise fault


@cache
def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="retina_datasets_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def keep_converted(folder: Path) -> None:
    """Copy the COCO form of converted sets from the temporary folder into ``folder``, and read it from there."""
    for name in _converted.keys() & set(DatasetCatalog):
        metadata = MetadataCatalog.get(name)
        path = Path(metadata.json_file)
        if path.parent == _temporary_folder():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / path.name, path.read_bytes())
            del metadata.json_file  # Detectron2 lets no attribute get another value
            metadata.json_file = str(folder / path.name)


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
        SetupError: there is no set, or none with known classes.
    """
    nodes = [node for node in (cfg.MODEL.RETINANET, cfg.MODEL.ROI_HEADS) if node.NUM_CLASSES == 0]
    if not nodes:
        return
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise SetupError("MODEL.RETINANET.NUM_CLASSES is 0 (count the data's), but DATASETS.TRAIN and TEST are empty.")
    # An evaluation may run where the training set is not.
    name = next((n for n in names if _has_classes(n)), names[0])
    class_names = _classes_of(name)
    for node in nodes:
        node.NUM_CLASSES = len(class_names)
    logging.getLogger(__name__).info(
        "NUM_CLASSES = %d, the classes of %s: %s", len(class_names), name, ", ".join(class_names)
    )


def known_class_names(name: str) -> list[str]:
    """The classes of a data set in order; [] if it is not registered or they cannot be known here.

    Raises:
        SetupError: its JSON file is there and cannot be used.
    """
    return _classes_of(name) if _has_classes(name) else []


def _has_classes(name: str) -> bool:
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    return metadata is not None and (
        bool(metadata.get("thing_classes")) or os.path.isfile(str(metadata.get("json_file", "")))
    )


def _classes_of(name: str) -> list[str]:
    if name not in DatasetCatalog:
        raise SetupError(f"DATASETS names {name!r}, which is not registered: MODEL.RETINANET.NUM_CLASSES cannot be 0.")
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes"):
        return list(metadata.thing_classes)
    if metadata.get("json_file"):
        return class_names_in_order(read_coco_json(name, metadata.json_file))
    raise SetupError(f"{name} has no class names: set MODEL.RETINANET.NUM_CLASSES, or its thing_classes.")
