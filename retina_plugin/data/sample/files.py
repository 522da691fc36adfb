"""The built-in sample set: a real detection problem in COCO format, made in seconds without a download.

``python -m retina_plugin.data.sample.files ROOT`` writes it. Layout::

    ROOT/annotations/{train,val}.json    ROOT/images/{train,val}/000001.jpg    ROOT/sample.json

Ten classes with a long tail, 1 to 20 objects an image, look-alike clutter; see ``sample_scene.py`` for the drawing.
Beyond COCO's keys an annotation has ``digit_index`` (in scikit-learn's ``load_digits``), an image has ``background``
(photograph and XYWH box in it) and ``clutter`` (XYWH boxes that are not objects).
A mirrored digit is not a digit: train with ``INPUT.RANDOM_FLIP: none``.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import SetupError
from .catalog import SAMPLE_CLASSES, SPARSE_CLASSES, register_sample_datasets
from .scene import STYLES, Scene, SceneStyle, draw_scene, load_sources

__all__ = ["make_sample_dataset", "register_sample_datasets"]

FORMAT_VERSION = 2  # raise it when the drawing changes: sets made before are then made again
HEAD_TO_TAIL = 5.0  # "zero" is this many times as frequent as "nine"; exponential in between, as in long-tailed sets
MAX_OBJECTS = 20
JPEG_QUALITY = 90
SET_ENTRIES = {"annotations", "images", "sample.json"}


def make_sample_dataset(
    root: str | Path,
    *,
    num_train: int = 800,
    num_val: int = 100,
    seed: int = 0,
    max_objects: int = MAX_OBJECTS,
    one_class: bool = False,
    style: str = "plain",
) -> Path:
    """Write the sample set to the folder ``root``, or keep the one there if it is complete and has the same settings.

    The same arguments give the same bytes (with the same Pillow, NumPy and scikit-learn). The set appears at once
    under its name: an interrupted run leaves no half of it.

    Args:
        root: folder of the set; made with its parents. An earlier sample set in it is replaced.
        num_train: images in train, >= 1.
        num_val: images in val, >= 1.
        seed: >= 0.
        max_objects: most objects per image, >= 1. With 1, negatives outnumber positives as in the paper.
        one_class: annotate every digit as SPARSE_CLASSES' "digit", which is learnt in fewer steps.
        style: one of STYLES in ``scene.py``: number and size of the objects, amount of clutter.

    Returns:
        ``root`` as a path.

    Raises:
        SetupError: an argument out of range, scikit-learn missing, or ``root`` holds something else than a sample set.
    """
    settings = {"num_train": num_train, "num_val": num_val, "seed": seed, "max_objects": max_objects}
    for name, value in settings.items():
        least = 0 if name == "seed" else 1
        if value < least:
            raise SetupError(f"{name} must be at least {least}, got {value}")
    if style not in STYLES:
        raise SetupError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
    if max_objects < STYLES[style].min_objects:
        raise SetupError(f"max_objects must be at least {STYLES[style].min_objects} for {style}, got {max_objects}")
    root = Path(root)
    settings |= {"version": FORMAT_VERSION, "one_class": one_class}
    settings |= {} if style == "plain" else {"style": style}  # plain sets stay as they were
    if _is_complete(root, settings):
        return root
    _refuse_foreign_folder(root)
    sources = load_sources(seed)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}_", dir=root.parent) as temporary:
            new = Path(temporary) / "new"
            for i, (split, count) in enumerate((("train", num_train), ("val", num_val))):
                rng = np.random.default_rng([seed, 1 + i])
                _write_split(
                    new,
                    split,
                    one_class,
                    [
                        draw_scene(sources[i], k, rng, STYLES[style])
                        for k in _draw_classes(count, max_objects, STYLES[style], rng)
                    ],
                )
            (new / "sample.json").write_text(json.dumps({**settings, **_inventory(new)}) + "\n")
            if root.exists():
                os.rename(root, Path(temporary) / "old")
            os.rename(new, root)
    except OSError as e:
        if not _is_complete(root, settings):  # complete: another worker was faster
            raise SetupError(f"Cannot write the sample set to {root}: {e}") from e
    return root


def class_quota(num_objects: int) -> np.ndarray:
    """(10,) long: how many of ``num_objects`` >= 0 each class gets, HEAD_TO_TAIL to 1 from first to last.

    The sum is ``num_objects``; each is within 1 of its exact share, so that from 41 objects on no class is empty.
    """
    shares = HEAD_TO_TAIL ** -np.linspace(0, 1, len(SAMPLE_CLASSES))
    bounds = np.cumsum(shares) / shares.sum() * num_objects
    return np.diff(np.round(bounds), prepend=0).astype(np.int64)


def _draw_classes(num_images: int, max_objects: int, style: SceneStyle, rng: np.random.Generator) -> list[np.ndarray]:
    """Classes of the objects of each image: up to ``max_objects`` long, together exactly the quota."""
    quantiles = (rng.permutation(num_images) + 0.5) / num_images  # a quota too: splits differ in size, not in kind
    counts = style.min_objects - style.mean_extra_objects * np.log1p(-quantiles)
    counts = np.minimum(counts, max_objects).astype(np.int64)
    classes = rng.permutation(np.repeat(np.arange(len(SAMPLE_CLASSES)), class_quota(int(counts.sum()))))
    return np.split(classes, np.cumsum(counts)[:-1])


def _write_split(root: Path, split: str, one_class: bool, scenes: list[Scene]) -> None:
    names = SPARSE_CLASSES if one_class else SAMPLE_CLASSES
    folder = root / "images" / split
    folder.mkdir(parents=True)
    images, annotations = [], []
    for image_id, scene in enumerate(scenes, start=1):
        file_name = f"{image_id:06d}.jpg"
        Image.fromarray(scene.image).save(folder / file_name, quality=JPEG_QUALITY)
        height, width = scene.image.shape[:2]
        photo, box = scene.background
        images.append(
            {
                "id": image_id,
                "file_name": file_name,
                "height": height,
                "width": width,
                "background": {"photo": photo, "bbox": box},
                "clutter": scene.clutter,
            }
        )
        annotations += [
            {
                "image_id": image_id,
                "category_id": 1 if one_class else k + 1,
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
                "digit_index": digit_index,
            }
            for k, digit_index, bbox in scene.objects
        ]
    record = {
        "info": {"description": f"retina_plugin sample set, {split}", "version": str(FORMAT_VERSION)},
        "images": images,
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(record) + "\n")


def _inventory(root: Path) -> dict[str, int]:
    """Number and bytes of the files, by which a set that lost some is known."""
    sizes = [path.stat().st_size for part in ("annotations", "images") for path in (root / part).rglob("*.*")]
    return {"num_files": len(sizes), "num_bytes": sum(sizes)}


def _is_complete(root: Path, settings: dict[str, int]) -> bool:
    try:
        return json.loads((root / "sample.json").read_text()) == {**settings, **_inventory(root)}
    except (OSError, ValueError):
        return False


def _refuse_foreign_folder(root: Path) -> None:
    """Only what this module wrote may be replaced: a folder with sample.json and nothing besides the set."""
    if not root.exists():
        return
    found = {path.name for path in root.iterdir()} if root.is_dir() else {root.name}
    if found and not ("sample.json" in found and found <= SET_ENTRIES):
        others = sorted(found - SET_ENTRIES) or sorted(found)
        raise SetupError(f"{root} holds {others[0]}, which does not belong to a sample set: give a new or empty folder")
