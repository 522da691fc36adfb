"""The checks of ``retina doctor``: stable name, severity, meaning and remedy.

``docs/doctor.md`` has this table (a test compares them); the JSON of a report has the names.
"""

from dataclasses import dataclass

__all__ = ["CATALOG", "ERROR", "NOTE", "WARNING", "Check"]

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Check:
    severity: str  # the usual one; a case may be milder or more severe
    meaning: str
    remedy: str


# Name: severity and meaning, and below it the remedy.
_ENVIRONMENT = {
    "package-missing": Check(ERROR, "A package that training needs is not installed.",
        "Install it: `make setup` installs all."),
    "torch-mismatch": Check(ERROR, "torch and torchvision were not built for each other.",
        "Install the torchvision that was released with this torch, both from one index (CPU or the same CUDA)."),
    "import-fails": Check(ERROR, "torch, torchvision or Detectron2 cannot be imported.",
        "Fix the installation; `make setup` makes a new one."),
    "operator-missing": Check(ERROR, "An operator that the config needs is not compiled in.",
        "Install torchvision (nms) or Detectron2 (_C) built for this torch."),
    "detectron2-operators": Check(NOTE, "Detectron2's compiled operators (_C) are absent.",
        "Nothing to do: this config uses none of them."),
    "old-names": Check(NOTE, "This Detectron2 uses names that today's Pillow or numpy dropped (Image.LINEAR, np.int).",
        "Nothing to do here: the plugin stands in for them. In your own scripts import retina_plugin first."),
    "pkg-resources": Check(NOTE, "setuptools has no pkg_resources, so detectron2.model_zoo cannot be imported.",
        "The plugin does not need it. For your own scripts: pip install 'setuptools<81'."),
    "python-untested": Check(WARNING, "TorchScript, which Detectron2 uses at import, does not support this Python.",
        "Use 3.10 to 3.13."),
    "no-gpu": Check(WARNING, "The config asks for a GPU that is not visible, so training runs on the CPU.",
        "Install a CUDA build of torch, look at nvidia-smi and CUDA_VISIBLE_DEVICES, or set MODEL.DEVICE cpu."),
    "memory": Check(WARNING, "A training step is estimated to need more memory than there is, or nearly all of it.",
        "Lower SOLVER.IMS_PER_BATCH (and BASE_LR with it), INPUT.MIN_SIZE_TRAIN or INPUT.MAX_SIZE_TRAIN."),
}  # fmt: skip

_CONFIG = {
    "config-value": Check(ERROR, "A key has a value that cannot work.", ""),
    "lr-high": Check(WARNING, "The learning rate is over 4 times the linear rule's for this batch.",
        "Lower SOLVER.BASE_LR."),
    "lr-low": Check(WARNING, "The learning rate is under a tenth of the linear rule's for this batch.",
        "Raise SOLVER.BASE_LR."),
    "steps-beyond-end": Check(WARNING, "The learning rate would drop after the end of the run.",
        "Set SOLVER.STEPS below SOLVER.MAX_ITER."),
    "warmup-beyond-end": Check(WARNING, "The run ends within the warm-up.",
        "Lower SOLVER.WARMUP_ITERS, or raise SOLVER.MAX_ITER."),
    "warmup-long": Check(WARNING, "Over half of the run is warm-up.",
        "Lower SOLVER.WARMUP_ITERS, or raise SOLVER.MAX_ITER."),
    "schedule-short": Check(WARNING, "The run does not see every training image once.",
        "Raise SOLVER.MAX_ITER, with SOLVER.STEPS."),
    "schedule-long": Check(NOTE, "The run is many times as long as any schedule known to help.",
        "Lower SOLVER.MAX_ITER, with SOLVER.STEPS."),
    "nothing-evaluated": Check(NOTE, "There is no test set.",
        "Set DATASETS.TEST, or DATASETS.VAL_JSON and VAL_IMAGES, to get an AP."),
    "evaluated-at-end": Check(NOTE, "The run is scored once, after its last iteration.",
        "Set TEST.EVAL_PERIOD to see AP on the way."),
    "no-positive-label": Check(WARNING, "No overlap makes an anchor positive.",
        "Set MODEL.RETINANET.IOU_LABELS [0, -1, 1]."),
    "precision-slow": Check(WARNING, "The processor has no instructions for the precision asked for.",
        "Set MODEL.PRECISION fp32."),
    "precision-unused": Check(NOTE, "The precision asked for does nothing on this device.",
        "Nothing to do, or set MODEL.PRECISION fp32."),
    "training-keys": Check(WARNING, "Training options (docs/training.md) that work and are probably not meant.",
        "As it says."),
    "frozen-bn-from-scratch": Check(WARNING, "Random weights with batch norms that do not adapt.",
        "Use configs/Base-Retina-Scratch.yaml, or give MODEL.WEIGHTS."),
    "anchor-sizes-flat": Check(WARNING, "Every level has every anchor size.", "One list a level gives each its own."),
    "anchor-twice": Check(WARNING, "The same anchor stands twice at a point.", "Leave the repeated value out."),
    "other-head-key": Check(WARNING, "A key of the two-stage detectors is set, which RetinaNet does not read.",
        "Set its RETINANET twin."),
    "test-size-apart": Check(WARNING, "Test images are resized to a scale that training never shows.",
        "Set INPUT.MIN_SIZE_TEST within INPUT.MIN_SIZE_TRAIN, and the MAX_SIZE keys alike."),
    "test-size-outside": Check(NOTE, "Test images are resized to a side just outside those of training.",
        "Set INPUT.MIN_SIZE_TEST within INPUT.MIN_SIZE_TRAIN, unless the test-time size was chosen by AP."),
    "images-enlarged": Check(NOTE,
        "Most images are enlarged to over twice their size, which costs memory and time and adds no detail.",
        "Lower INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST, and with them MODEL.ANCHOR_GENERATOR.BASE_SIZE or SIZES."),
    "detections-few": Check(WARNING, "Images have more boxes than a test image may have detections.",
        "Raise TEST.DETECTIONS_PER_IMAGE. COCO's AP counts 100 an image at most."),
}  # fmt: skip

_WEIGHTS = {
    "weights-unusable": Check(ERROR,
        "MODEL.WEIGHTS is missing, unreadable, of another shape or, by its manifest, for something else.",
        ""),
    "weights-remote": Check(NOTE, "MODEL.WEIGHTS is an address; what is behind it was not looked at.",
        "Training fetches it at its start. Give a local file to have it looked at."),
    "weights-in-part": Check(NOTE,
        "Layers of the model that the checkpoint does not have, or has in another shape, start from random values.",
        "Nothing to do if that is meant, as for the heads on a backbone of ImageNet."),
    "weights-nothing-loaded": Check(ERROR, "The checkpoint gives nothing to the backbone.",
        "Give weights of this backbone (MODEL.RESNETS.DEPTH)."),
    "weights-other-config": Check(WARNING,
        "A checkpoint without a manifest lies beside a config with other anchors, pixels or box weights.",
        "Take over its values, or train long enough to unlearn them."),
}  # fmt: skip

_DATA = {
    "data-unusable": Check(ERROR, "A data set is missing, is not registered or cannot be read as a whole.", ""),
    "record-unusable": Check(ERROR, "A record of an image or a box cannot be read.", "Correct or delete the records."),
    "record-doubtful": Check(WARNING, "Records that Detectron2 leaves out or misreads.", ""),
    "classes-differ": Check(ERROR, "Classes of the data do not fit the config, or those of another set.", ""),
    "no-boxes": Check(ERROR, "A training set has no box at all.", "Look at its annotation file."),
    "class-without-boxes": Check(WARNING, "A class has no box to learn from, or none to be scored on.",
        "Annotate it, or leave the class out."),
    "class-rare": Check(NOTE, "A class has fewer than 10 boxes to learn from.",
        "Annotate more of it; its AP will mean little."),
    "image-without-boxes": Check(NOTE, "Images without any box.",
        "Training leaves them out while DATALOADER.FILTER_EMPTY_ANNOTATIONS is True; False keeps them as background."),
    "box-not-finite": Check(ERROR, "Boxes hold NaN or infinity.", "Write numbers."),
    "box-inverted": Check(ERROR, "Boxes have a negative width or height.",
        "Check the order of the coordinates: left, top, right, bottom, and in COCO's JSON x, y, width, height."),
    "box-normalised": Check(ERROR, "All boxes lie within 0..1.", "Multiply by the size of the image."),
    "box-empty": Check(
        ERROR,
        "Boxes have no width or no height. Up to a tenth of all boxes may be so or outside: then a warning, and they "
        "are left out.",
        "Correct or delete them; if they are many, check the order of the coordinates.",
    ),
    "box-outside": Check(
        ERROR,
        "Boxes lie outside their image; a warning up to the same tenth.",
        "Correct or delete them; if they are many, check the order of the coordinates and the size of the image that "
        "they belong to.",
    ),
    "box-sticks-out": Check(WARNING, "Boxes stick out of their image and will be clipped.",
        "Correct them unless it is only rounding."),
    "box-tiny": Check(WARNING,
        "After the resize boxes have a side under 4 px, half a cell of the finest level: hardly a trace is left.",
        "Raise INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST, train on crops (INPUT.CROP), or delete the boxes."),
    "box-twice": Check(WARNING, "The same box stands twice in an image, with the same class.",
        "Delete the second one."),
    "box-two-classes": Check(NOTE, "The same box stands in an image with two classes.",
        "Decide for one, unless an object has both."),
    "image-unreadable": Check(ERROR, "Image files are missing, damaged, or not of the size on record.",
        "Replace the files or correct the records."),
    "image-deep": Check(ERROR, "Images have more than 8 bits a channel; Detectron2 would cut values above 255.",
        "Convert them to 8 bits: only you know the range of their values."),
    "image-vanishes": Check(ERROR,
        "Images are so long and thin that the resize of the config leaves less than one pixel of a side.",
        "Cut them into parts, leave them out, or raise INPUT.MAX_SIZE_TRAIN / INPUT.MAX_SIZE_TEST."),
    "image-twice": Check(WARNING, "The same picture stands in a set more than once.",
        "Delete the copies, or join their boxes."),
    "leak-exact": Check(WARNING, "Pictures of a test set are in a training set too, byte for byte or pixel for pixel.",
        "Take them out of one of the two: AP on them does not show generalisation."),
    "leak-near": Check(WARNING,
        "Pictures of a test set look like pictures of a training set: another size, compression or a next video frame.",
        "Look at the pairs. Keep pictures of one scene or video in one set."),
}  # fmt: skip

_ANCHORS = {
    "boxes-unreached": Check(WARNING,
        "No anchor overlaps these boxes by the lower IOU_THRESHOLDS, so they are learned from their one best anchor.",
        "Fit the anchors (`retina analyze anchors`), or train on larger images."),
    "anchors-better": Check(NOTE, "Other anchors fit the boxes better, on images held out from the fit.",
        "Paste the keys into the config."),
    "anchors-not-checked": Check(NOTE, "Anchors could not be set against the boxes.", ""),
}  # fmt: skip

# Title of each table of docs/doctor.md -> its checks.
GROUPS = {"Environment": _ENVIRONMENT, "Config": _CONFIG, "Weights": _WEIGHTS, "Data": _DATA, "Anchors": _ANCHORS}
CATALOG: dict[str, Check] = {name: check for group in GROUPS.values() for name, check in group.items()}


def catalog_table() -> str:
    """Return the checks as Markdown, as ``docs/doctor.md`` has them between its markers."""
    lines = []
    for title, checks in GROUPS.items():
        lines += [f"### {title}", "", "| check | severity | means | remedy |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {check.severity} | {check.meaning} | {check.remedy or 'in its sentence'} |"
            for name, check in checks.items()
        ]
        lines.append("")
    return "\n".join(lines).strip() + "\n"
