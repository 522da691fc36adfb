"""The sample sets in Detectron2's catalogs: names, classes and default places."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ...errors import SetupError

__all__ = ["SAMPLE_CLASSES", "SPARSE_CLASSES", "default_sample_root", "register_sample_datasets"]

SAMPLE_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# The set of configs/study/: one object an image at most and one class (arguments of make_sample_dataset).
SPARSE_CLASSES = ("digit",)
SPARSE_SETTINGS = {"num_train": 1600, "num_val": 150, "max_objects": 1, "one_class": True}


def default_sample_root() -> Path:
    """``retina_sample`` beside Detectron2's own sets: in $DETECTRON2_DATASETS, or ``datasets`` if that is not set."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser() / "retina_sample"


def register_sample_datasets(root: str | Path | None = None) -> None:
    """Register ``retina_sample_train`` and ``_val`` as COCO-format sets under ``root``, and ``retina_sparse_*`` beside.

    Calling it again changes nothing, or moves the names to another ``root``. The files are read when a set is used;
    if they are not there yet, that raises ``SetupError`` with the command that makes them.
    ``root`` is ``default_sample_root()`` when None.
    """
    root = default_sample_root() if root is None else Path(root)
    _register("retina_sample", root, SAMPLE_CLASSES, "")
    options = "".join(
        f" --{key.replace('_', '-')}" + ("" if value is True else f" {value}") for key, value in SPARSE_SETTINGS.items()
    )
    _register("retina_sparse", root.with_name("retina_sparse"), SPARSE_CLASSES, options)


def _register(prefix: str, root: Path, classes: tuple[str, ...], options: str) -> None:
    remedy = f"retina sample {root}{options}"
    for split in ("train", "val"):
        name = f"{prefix}_{split}"
        json_file, image_root = root / "annotations" / f"{split}.json", root / "images" / split
        if name in DatasetCatalog:
            if MetadataCatalog.get(name).json_file == str(json_file):
                continue
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda n=name, j=json_file, i=image_root: _load(n, j, i, remedy))
        MetadataCatalog.get(name).set(
            json_file=str(json_file),
            image_root=str(image_root),
            evaluator_type="coco",
            thing_classes=list(classes),
        )


def _load(name: str, json_file: Path, image_root: Path, remedy: str) -> list[dict]:
    if not json_file.is_file():
        raise SetupError(f"{name}: {json_file} does not exist. Make the sample set with: {remedy}")
    return load_coco_json(str(json_file), str(image_root), name)
