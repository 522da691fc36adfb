"""The data sets of a config, checked before training or evaluation starts."""

import difflib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..errors import SetupError
from ..findings import ERROR, NOTE, WARNING, Finding, finding
from .box_checks import check_boxes
from .dataset_content import DatasetContent, load_content
from .image_checks import check_folder, check_images
from .training_sense import find_doubtful

__all__ = ["DataSummary", "SetSummary", "check_datasets", "load_datasets"]


_NO_TRAIN_REMEDY = "name a registered data set, or give DATASETS.TRAIN_JSON and TRAIN_IMAGES."


@dataclass(frozen=True)
class SetSummary:
    """Counts of one data set; boxes are those that are no crowds."""

    images: int
    images_with_annotations: int
    boxes: int
    # By class index; () if the set does not tell.
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class DataSummary:
    """What the checks found: counts by name of the data set, and sentences about what is probably not meant."""

    sets: dict[str, SetSummary] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_datasets(cfg: CfgNode, *, train: bool) -> DataSummary:
    """Check names, files, classes, images and boxes of DATASETS.TRAIN (if ``train``) and DATASETS.TEST.

    Counts and warnings go to the log too.

    Raises:
        SetupError: with the data set, the file or record, and the remedy, for the first thing that cannot work.
    """
    _check_names(cfg, train=train)
    train_names = tuple(cfg.DATASETS.TRAIN) if train else ()
    contents: dict[str, DatasetContent] = {}
    warnings: list[str] = []
    for name in dict.fromkeys((*train_names, *cfg.DATASETS.TEST)):
        for_training = name in train_names
        content = load_content(name, for_training=for_training, for_test=name in cfg.DATASETS.TEST)
        contents[name] = content
        _check_classes(cfg, content)
        _check_same_classes(next(iter(contents.values())), content)
        warnings += content.warnings + check_images(content) + check_boxes(content)
        for found in _find_unannotated(content, for_training=for_training):
            if found.severity == ERROR:
                raise SetupError(str(found))
            warnings.append(str(found))
    warnings += _find_shared_images(contents, train_names, cfg.DATASETS.TEST)
    if train:
        warnings += [str(found) for found in find_doubtful(cfg, contents) if found.severity == WARNING]
    summary = DataSummary({name: _summarise(content) for name, content in contents.items()}, warnings)
    _log(summary)
    return summary


def _check_names(cfg: CfgNode, *, train: bool) -> None:
    if train and not cfg.DATASETS.TRAIN:
        raise SetupError(f"DATASETS.TRAIN is empty: {_NO_TRAIN_REMEDY}")
    if not train and not cfg.DATASETS.TEST:
        raise SetupError(
            "DATASETS.TEST is empty, so there is nothing to evaluate: name a registered data set, or give "
            "DATASETS.VAL_JSON and VAL_IMAGES."
        )
    for key in ("TRAIN", "TEST") if train else ("TEST",):
        for name in cfg.DATASETS[key]:
            _check_registered(name, key)


def _check_registered(name: str, key: str) -> None:
    if name not in DatasetCatalog:
        near = difflib.get_close_matches(str(name), DatasetCatalog.list(), n=3, cutoff=0.6)
        prefix = {"TRAIN": "TRAIN", "TEST": "VAL"}[key]
        raise SetupError(
            f"DATASETS.{key} names {name!r}, which is not registered"
            + (f"; did you mean {', '.join(near)}?" if near else ".")
            + f"\nA COCO-format set needs no registration: give DATASETS.{prefix}_JSON and {prefix}_IMAGES."
        )


def load_datasets(cfg: CfgNode) -> tuple[dict[str, DatasetContent], list[Finding]]:
    """The sets of DATASETS.TRAIN and TEST that can be read, and every fault of names, records, classes and annotations.

    Records with a fault are left out. Boxes and image files are not looked at, and nothing is refused.
    """
    contents: dict[str, DatasetContent] = {}
    found: list[Finding] = []
    if not cfg.DATASETS.TRAIN:
        found.append(finding("data-unusable", "DATASETS.TRAIN", "DATASETS.TRAIN is empty", _NO_TRAIN_REMEDY))
    if not cfg.DATASETS.TEST:
        found.append(finding("nothing-evaluated", "DATASETS.TEST", "DATASETS.TEST is empty: no AP will be computed"))
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        for_training, faults = name in cfg.DATASETS.TRAIN, []
        try:
            _check_registered(name, "TRAIN" if for_training else "TEST")
            content = load_content(name, for_training=for_training, for_test=name in cfg.DATASETS.TEST, faults=faults)
        except SetupError as error:
            found.append(finding("data-unusable", str(name), str(error)))
            continue
        contents[name] = content
        if faults:
            what = f"{name}: {len(faults)} records cannot be used; the first: {faults[0]}"
            places = [{"file": content.source, "value": str(fault)} for fault in faults]
            found.append(finding("record-unusable", name, what, places=places))
        found += [finding("record-doubtful", name, text) for text in content.warnings]
        found += _find_refused("classes-differ", name, _check_classes, cfg, content)
        found += _find_refused("classes-differ", name, _check_same_classes, next(iter(contents.values())), content)
        found += _find_refused("data-unusable", name, check_folder, content)
        found += _find_unannotated(content, for_training=for_training)
    return contents, found


def _find_refused(check: str, where: str, function: Callable[..., None], *args: object) -> list[Finding]:
    try:
        function(*args)
    except SetupError as error:
        return [finding(check, where, str(error))]
    return []


def _check_classes(cfg: CfgNode, content: DatasetContent) -> None:
    key, number = "MODEL.RETINANET.NUM_CLASSES", cfg.MODEL.RETINANET.NUM_CLASSES
    if "RetinaNet" not in cfg.MODEL.META_ARCHITECTURE or number == 0:
        return
    if content.class_names is not None and len(content.class_names) != number:
        names = content.class_names
        listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise SetupError(
            f"{key} is {number}, but {content.name} has {len(names)} classes ({listed}): set {key} {len(names)}, "
            "or 0 to take it from the data."
        )
    if content.class_counts and max(content.class_counts) >= number:
        needed = max(content.class_counts) + 1
        raise SetupError(f"{key} is {number}, but {content.name} has category_id {needed - 1}: set {key} {needed}.")


def _check_same_classes(first: DatasetContent, other: DatasetContent) -> None:
    ours, theirs = first.class_names, other.class_names
    if ours is None or theirs is None or ours == theirs:
        return
    if sorted(ours) == sorted(theirs):
        difference = "the same names in another order: give equal names equal places (the order of their ids)"
    else:
        only = {first.name: set(ours) - set(theirs), other.name: set(theirs) - set(ours)}
        difference = "; ".join(f"only in {name}: {', '.join(sorted(names))}" for name, names in only.items() if names)
    raise SetupError(f"{first.name} and {other.name} must have the same classes in the same order, got {difference}.")


def _find_unannotated(content: DatasetContent, *, for_training: bool) -> list[Finding]:
    if not content.image_ids:  # a loader whose content is not known
        return []
    name = content.name
    if not len(content.boxes):
        text = f"{name}: no image has an annotation ({len(content.image_ids)} images, crowds not counted)"
        if for_training:
            remedy = f"Look at {content.source}."
            return [finding("no-boxes", name, f"{text}: there is nothing to learn from", remedy)]
        return [finding("no-boxes", name, f"{text}: AP cannot be computed", "", severity=WARNING)]
    unused = [cls for i, cls in enumerate(content.class_names or []) if not content.class_counts[i]]
    if not unused:
        return []
    listed = ", ".join(unused[:10])
    places = [{"file": content.source, "value": cls} for cls in unused]
    if for_training:
        text = f"{name}: no box of {len(unused)} classes, so they cannot be learned: {listed}"
        return [finding("class-without-boxes", name, text, places=places)]
    text = f"{name}: no box of {len(unused)} classes, so they have no AP: {listed}"
    return [finding("class-without-boxes", name, text, severity=NOTE, places=places)]


def _find_shared_images(contents: dict[str, DatasetContent], train: Iterable[str], test: Iterable[str]) -> list[str]:
    files = {name: set(contents[name].file_names) - {""} for name in contents}
    return [
        f"{len(shared)} images of {test_name} are in {train_name} too: AP on them does not show generalisation."
        for train_name in train
        for test_name in test
        if (shared := files[train_name] & files[test_name])
    ]


def _summarise(content: DatasetContent) -> SetSummary:
    return SetSummary(
        images=len(content.image_ids),
        images_with_annotations=content.num_annotated,
        boxes=len(content.boxes),
        class_names=tuple(content.class_names or ()),
    )


def _log(summary: DataSummary) -> None:
    logger = logging.getLogger(__name__)
    for name, counts in summary.sets.items():
        logger.info(
            "%s: %d images, %d of them with annotations, %d boxes, %d classes",
            name, counts.images, counts.images_with_annotations, counts.boxes, len(counts.class_names),
        )  # fmt: skip
    for warning in summary.warnings:
        logger.warning("%s", warning)
