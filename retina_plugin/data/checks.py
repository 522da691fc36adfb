"""The data sets of a config, checked before a training or an evaluation starts, and by ``retina doctor``."""

import difflib
import itertools
import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import SetupError, count, name_some
from ..findings import ERROR, NOTE, WARNING, Finding, finding, raise_first_error
from .box_sense import box_places
from .boxes import find_box_faults
from .coco import REMEDY
from .dataset_content import DatasetContent, load_content
from .images import MISSING, MISSING_REMEDY, ImageHeader, find_fault, join_faults, read_header
from .resized import describe_vanishing, find_vanishing
from .training_sense import find_doubtful

__all__ = ["DataSummary", "check_datasets", "check_headers", "check_sets"]

# Headers looked at in one set: seconds on a local disk. Beyond it an evenly spaced sample stands for the set.
MAX_IMAGES = 20_000
_LISTED_CLASSES = 20  # at most in a remedy
_MANY = 5_000  # from here on a line in the log says why it takes a while


@dataclass(frozen=True)
class SetSummary:
    """Counts of one data set; crowds are not among the boxes."""

    images: int
    images_with_annotations: int
    boxes: int
    # Names by class index; () if the set has none.
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class DataSummary:
    """Counts by name of the data set, and sentences about probable mistakes."""

    sets: dict[str, SetSummary] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def check_datasets(cfg: CfgNode, *, train: bool) -> DataSummary:
    """Check names, files, classes, images and boxes of DATASETS.TRAIN (if ``train``) and DATASETS.TEST.

    Counts and warnings go to the log too.

    Raises:
        SetupError: the first fault; the message names the data set, the file or record, and the remedy.
    """
    contents: dict[str, DatasetContent] = {}
    found = raise_first_error(check_sets(cfg, contents, train=train, open_images=True))
    if train:
        # Compares images by path only; retina doctor compares their content.
        files = {name: set(content.file_names) - {""} for name, content in contents.items()}
        for train_name, test_name in itertools.product(cfg.DATASETS.TRAIN, cfg.DATASETS.TEST):
            if shared := files[train_name] & files[test_name]:
                verb = "is" if len(shared) == 1 else "are"
                text = f"{count(len(shared), 'image')} of {test_name} {verb} in {train_name} too"
                found.append(finding("leak-exact", test_name, text, "AP on them does not show generalisation."))
        found += raise_first_error(find_doubtful(cfg, contents))
    sets = {
        name: SetSummary(
            len(content.image_ids), content.num_annotated, len(content.boxes), tuple(content.class_names or ())
        )
        for name, content in contents.items()
    }
    summary = DataSummary(sets, [str(each) for each in found if each.severity == WARNING])
    logger = logging.getLogger(__name__)
    for name, counts in sets.items():
        logger.info(
            "%s: %s, %d of them with annotations, %s, %s", name, count(counts.images, "image"),
            counts.images_with_annotations, count(counts.boxes, "box"), count(len(counts.class_names), "class"),
        )  # fmt: skip
    for warning in summary.warnings:
        logger.warning("%s", warning)
    return summary


def check_sets(
    cfg: CfgNode, contents: MutableMapping[str, DatasetContent], *, train: bool, open_images: bool
) -> Iterator[Finding]:
    """Check the sets of DATASETS.TRAIN (if ``train``) and DATASETS.TEST one after the other.

    Args:
        contents: takes each set that can be read, by its name.
        open_images: look at the headers of the image files too.
    """
    train_names, test_names = tuple(cfg.DATASETS.TRAIN) if train else (), tuple(cfg.DATASETS.TEST)
    if train and not train_names:
        remedy = "Name a registered data set, or give DATASETS.TRAIN_PATH."
        yield finding("data-unusable", "DATASETS.TRAIN", "DATASETS.TRAIN is empty", remedy)
    if not test_names and train:
        yield finding("nothing-evaluated", "DATASETS.TEST", "DATASETS.TEST is empty: no AP will be computed")
    elif not test_names:
        text = "DATASETS.TEST is empty, so there is nothing to evaluate"
        remedy = "Name a registered data set, or give DATASETS.VAL_PATH."
        yield finding("nothing-evaluated", "DATASETS.TEST", text, remedy, severity=ERROR)
    names = dict.fromkeys((*train_names, *test_names))
    for name in (name for name in names if name not in DatasetCatalog):
        key, prefix = ("TRAIN", "TRAIN") if name in train_names else ("TEST", "VAL")
        near = ", ".join(difflib.get_close_matches(str(name), DatasetCatalog.list(), n=3, cutoff=0.6))
        text = f"DATASETS.{key} names {name!r}, which is not registered" + (f"; did you mean {near}?" if near else ".")
        text += f"\nA COCO-format set needs no registration: give DATASETS.{prefix}_JSON and {prefix}_IMAGES"
        yield finding("data-unusable", str(name), text)
    for name in (name for name in names if name in DatasetCatalog):
        try:
            content = load_content(name, for_training=name in train_names, for_test=name in test_names)
        except SetupError as error:
            yield finding("data-unusable", str(name), str(error))
            continue
        contents[name] = content
        yield from content.findings
        yield from _check_classes(cfg, content, next(iter(contents.values())), for_training=train)
        root = MetadataCatalog.get(name).get("image_root")
        if root and "://" not in str(root) and not os.path.isdir(root):
            full = "" if os.path.isabs(root) else f" ({os.path.abspath(root)})"
            kind = "is a file" if os.path.exists(root) else "does not exist"
            remedy = REMEDY.replace("_JSON", "_IMAGES").replace("file", "folder")
            yield finding("data-unusable", name, f"{name}: the image folder {root}{full} {kind}", remedy)
        if open_images:
            yield from check_images(content)
        yield from check_vanishing(cfg, content, for_training=name in train_names, for_test=name in test_names)
        yield from check_boxes(content)
        yield from _check_annotated(content, for_training=name in train_names)


def check_images(content: DatasetContent, *, max_images: int = MAX_IMAGES) -> Iterator[Finding]:
    """Open the files of ``content``, all or ``max_images`` of them spread evenly.

    Files are not decoded, except where the end of a JPEG or PNG looks cut off; damage inside a file comes to light when
    it is read. Addresses of remote storage are not looked at.
    """
    local = content.local_files
    picked = local
    if len(local) > max_images:
        picked = [local[i] for i in np.linspace(0, len(local) - 1, max_images, dtype=int)]
    if len(picked) > _MANY:
        sample = f" (a sample of {len(local)})" if len(picked) < len(local) else ""
        logging.getLogger(__name__).info("%s: looking at %d images%s", content.name, len(picked), sample)
    yield from check_headers(content, {i: read_header(content.file_names[i]) for i in picked})


def check_headers(content: DatasetContent, headers: Mapping[int, ImageHeader]) -> Iterator[Finding]:
    """Check image files that have been looked at; ``headers`` by index of the image."""
    faults = {i: fault for i, header in headers.items() if (fault := find_fault(header, tuple(content.sizes[i])))}
    deep = [i for i in faults if headers[i].is_deep and not headers[i].fault]
    for check, rows in (("image-unreadable", [i for i in faults if i not in set(deep)]), ("image-deep", deep)):
        if rows:
            listed = join_faults([f"{content.file_names[i]} {faults[i]}" for i in rows])
            places = [content.place(i, value=faults[i]) for i in rows]
            text = f"{content.name}: {len(rows)} of {len(headers)} images cannot be used: {listed}"
            remedy = MISSING_REMEDY if all(faults[i] == MISSING for i in rows) else None
            yield finding(check, content.name, text, remedy, places=places)


def check_vanishing(cfg: CfgNode, content: DatasetContent, *, for_training: bool, for_test: bool) -> Iterator[Finding]:
    """Find images so long and thin that nothing is left of a side once they are resized as the config says."""
    # Of the training sizes the smallest keeps the fewest pixels.
    for use, pick in ((for_training, min), (for_test, None)):
        rows = find_vanishing(cfg, content.sizes, pick).nonzero()[0] if use else ()
        if len(rows):
            i = rows[0]
            text = (
                f"{content.name}: {len(rows)} of {len(content.sizes)} images cannot be resized: "
                f"{content.file_names[i]} {describe_vanishing(cfg, tuple(content.sizes[i]), pick)}"
            )
            yield finding("image-vanishes", content.name, text, places=map(content.place, rows))


def check_boxes(content: DatasetContent) -> Iterator[Finding]:
    """Look at every box that is not a crowd."""
    boxes = content.boxes
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite or NaN is a fault
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    for fault in find_box_faults(corners, content.sizes[content.box_images]):
        rows = fault.mask.nonzero()[0]
        image = content.box_images[rows[0]]
        text = (
            f"{content.name}: {len(rows)} of {len(boxes)} boxes (the first: "
            f"[{', '.join(f'{number:g}' for number in boxes[rows[0]])}], annotation id "
            f"{content.annotation_ids[rows[0]]}, image id {content.image_ids[image]}, {content.file_names[image]}) "
            f"{fault.text}"
        )
        dropped = fault.check in ("box-empty", "box-outside") and fault.severity == WARNING
        remedy = "Training leaves them out; in a test set each counts as missed." if dropped else None
        places = box_places(content, rows)
        yield finding(fault.check, content.name, text, remedy, severity=fault.severity, places=places)


def _check_classes(
    cfg: CfgNode, content: DatasetContent, first: DatasetContent, *, for_training: bool
) -> Iterator[Finding]:
    """The classes against NUM_CLASSES, unless they are not those of the ``first`` set, which has so many."""
    key, number = "MODEL.RETINANET.NUM_CLASSES", cfg.MODEL.RETINANET.NUM_CLASSES
    names = content.class_names
    if "RetinaNet" in cfg.MODEL.META_ARCHITECTURE and number != 0:
        highest = max(content.class_counts, default=-1)
        if names is not None and len(names) != number and len(first.class_names or ()) != number:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            text = f"{key} is {number}, but {content.name} has {count(len(names), 'class')} ({listed})"
            remedy = (
                f"Set {key} {len(names)}, or 0 to take it from the data."
                if for_training
                else "Name the detector's classes in their order, those of the set among them: DATASETS.CLASSES."
                if len(names) < number
                else "The detector cannot find the others: take them out of the set, or evaluate another detector."
            )
            yield finding("classes-differ", content.name, text, remedy)
        elif highest >= number:
            text = f"{key} is {number}, but {content.name} has category_id {highest}"
            yield finding("classes-differ", content.name, text, f"Set {key} {highest + 1}.")
    if first.class_names is None or names is None or first.class_names == names:
        return
    if sorted(first.class_names) == sorted(names):
        difference = "the same names in another order: give equal names equal places (the order of their ids)"
    else:
        only = {first.name: set(first.class_names) - set(names), content.name: set(names) - set(first.class_names)}
        difference = "; ".join(f"only in {name}: {', '.join(sorted(lacks))}" for name, lacks in only.items() if lacks)
    text = f"{first.name} and {content.name} must have the same classes in the same order, got {difference}"
    by_path = {first.name, content.name} <= {"custom_train", "custom_val"}
    both = list(dict.fromkeys([*first.class_names, *names]))
    remedy = f'Give both the same list: DATASETS.CLASSES "{both}".' if by_path else ""
    yield finding("classes-differ", content.name, text, remedy)


def _check_annotated(content: DatasetContent, *, for_training: bool) -> Iterator[Finding]:
    """A set without boxes, and classes without boxes."""
    name, num_images = content.name, len(content.image_ids)
    if not num_images:  # a loader whose content is not known
        return
    if not len(content.boxes):
        text = f"{name}: no image has an annotation ({count(num_images, 'image')}, crowds not counted)"
        if for_training:
            remedy = f"Look at {content.source}."
            yield finding("no-boxes", name, f"{text}: there is nothing to learn from", remedy)
        else:
            yield finding("no-boxes", name, f"{text}: AP cannot be computed", "", severity=WARNING)
        return
    unused = [cls for i, cls in enumerate(content.class_names or []) if not content.class_counts[i]]
    if unused:
        one = len(unused) == 1
        effect, severity = (
            ("cannot be learned", WARNING) if for_training else ("has no AP" if one else "have no AP", NOTE)
        )
        who = "it" if one else "they"
        text = f"{name}: no box of {count(len(unused), 'class')}, so {who} {effect}: {name_some(unused, 10)}"
        places = [{"file": content.source, "value": cls} for cls in unused]
        used = [cls for cls in content.class_names if cls not in unused]
        by_path = name in ("custom_train", "custom_val") and len(used) <= _LISTED_CLASSES
        remedy = (
            f'Annotate {"it" if one else "them"}, or list the others: DATASETS.CLASSES "{used}".' if by_path else None
        )
        yield finding("class-without-boxes", name, text, remedy, severity=severity, places=places)
