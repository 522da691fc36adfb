"""Registers the sample set with Detectron2: its names, classes and default place. Touches no file when imported."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json

from ..errors import SetupError

__all__ = ["SAMPLE_CLASSES", "default_sample_root", "register_sample_datasets"]

SAMPLE_CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def default_sample_root() -> Path:
    """``retina_sample`` beside Detectron2's own sets: in $DETECTRON2_DATASETS, or ``datasets`` if that is not set."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser() / "retina_sample"


def register_sample_datasets(root: str | Path | None = None) -> None:
    """Register ``retina_sample_train`` and ``retina_sample_val`` as COCO-format sets under ``root``.

    Calling it again changes nothing, or moves the names to another ``root``. The files are read when a set is used;
    if they are not there yet, that raises ``SetupError`` with the command that makes them.
    ``root`` is ``default_sample_root()`` when None.
    """
    root = default_sample_root() if root is None else Path(root)
    for split in ("train", "val"):
        name = f"retina_sample_{split}"
        json_file, image_root = root / "annotations" / f"{split}.json", root / "images" / split
        if name in DatasetCatalog:
            if MetadataCatalog.get(name).json_file == str(json_file):
                continue
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda n=name, j=json_file, i=image_root, r=root: _load(n, j, i, r))
        MetadataCatalog.get(name).set(
            json_file=str(json_file),
            image_root=str(image_root),
            evaluator_type="coco",
            thing_classes=list(SAMPLE_CLASSES),
        )


def _load(name: str, json_file: Path, image_root: Path, root: Path) -> list[dict]:
    if not json_file.is_file():
        remedy = f"python -m retina_plugin.data.sample {root}"
        raise SetupError(f"{name}: {json_file} does not exist. Make the sample set with: {remedy}")
    return load_coco_json(str(json_file), str(image_root), name)
