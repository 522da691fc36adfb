"""The origin of stored detections: a JSON file beside a results file names their set and settings."""

import hashlib
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ..config.load import config_values
from ..data.safe_json import load_json
from ..errors import SetupError
from ..files import write_json
from .boxes import Truth

__all__ = ["Origin", "check_origin", "hash_file", "origin_path", "read_origin", "settings_of", "write_origin"]

logger = logging.getLogger(__name__)

# The config keys on which the detections of a model depend, besides those that describe the model itself.
SETTINGS = (
    "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST", "MODEL.RETINANET.NMS_THRESH_TEST", "TEST.DETECTIONS_PER_IMAGE",
    "TEST.AUG.ENABLED", "TEST.AUG.MIN_SIZES", "TEST.AUG.MAX_SIZE", "TEST.AUG.FLIP",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """The set and the settings of the detections in one results file."""

    data_set: str  # name in the catalog
    ground_truth: str  # "6 images, 8 boxes of dog, cat", for messages
    fingerprint: str  # Truth.fingerprint of the set
    settings: dict[str, Any]  # of SETTINGS
    weights: str  # path of the checkpoint; "" for the model of a training in progress
    weights_sha256: str
    results_sha256: str  # of the results file itself
    classes: dict[str, int] = field(default_factory=dict)  # name -> id in the results; {} in older files

    def describe(self) -> str:
        return f"{self.data_set} ({self.ground_truth})"

    def find_set(self, truth: Truth) -> Truth | None:
        """Return ``truth`` with the ids of classes in these detections; None if they were made for another set.

        An evaluation takes the order of classes from the weights, and a set that is read again has its own.
        """
        if truth.fingerprint() == self.fingerprint:
            return truth
        if not truth.classes_with_boxes <= self.classes.keys():
            return None
        other = truth.with_classes(self.classes)
        return other if other.fingerprint() == self.fingerprint else None


def settings_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the values of SETTINGS, in the types of JSON."""
    values = config_values(cfg)
    return {key: list(values[key]) if isinstance(values[key], tuple) else values[key] for key in SETTINGS}


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def origin_path(results: Path) -> Path:
    return results.with_suffix(".origin.json")


def write_origin(results: Path, truth: Truth, *, data_set: str, settings: dict[str, Any], weights: str) -> None:
    """Write the origin of a results file beside it.

    Args:
        weights: path of the checkpoint; "" for the model of a training in progress.
    """
    is_file = bool(weights) and Path(weights).is_file()
    origin = Origin(
        data_set=data_set,
        ground_truth=describe_truth(truth),
        fingerprint=truth.fingerprint(),
        settings=settings,
        weights=weights,
        weights_sha256=hash_file(Path(weights)) if is_file else "",
        results_sha256=hash_file(results),
        classes=dict(zip(truth.class_names, truth.class_ids, strict=True)),
    )
    write_json(origin_path(results), asdict(origin))


def describe_truth(truth: Truth) -> str:
    names = ", ".join(truth.class_names[:3]) + (", ..." if len(truth.class_names) > 3 else "")
    return f"{len(truth.image_ids)} images, {len(truth.boxes)} boxes of {names}"


def read_origin(results: Path) -> Origin | None:
    """Read the origin of a results file; None without one, or if the results were changed after the evaluation.

    Raises:
        SetupError: the file beside the results has another form.
    """
    path = origin_path(results)
    if not path.is_file():
        return None
    try:
        origin = Origin(**load_json(path))
        texts = {**vars(origin), "settings": "", "classes": ""}.values()
        mappings = isinstance(origin.settings, dict) and isinstance(origin.classes, dict)
        if not mappings or not all(isinstance(text, str) for text in texts):
            raise TypeError("a value of another type")
        if not all(type(class_id) is int for class_id in origin.classes.values()):
            raise TypeError("a value of another type")
    except (TypeError, ValueError, OSError) as error:  # JSON's and Unicode's errors are ValueErrors
        raise SetupError(f"{path} is not what an evaluation writes beside its detections: remove it.") from error
    if origin.results_sha256 != hash_file(results):
        logger.warning("%s was changed after the evaluation that %s describes: its set is not known", results, path)
        return None
    return origin


def check_origin(results: Path, truth: Truth) -> dict[int, str]:
    """Return the classes by their ids in the results; refuse detections that were made for another set.

    Those of unknown origin pass, with the ids of ``truth``.

    Raises:
        SetupError: the set of the detections has other images, classes or boxes than ``truth``.
    """
    origin = read_origin(results)
    own = origin.find_set(truth) if origin else truth
    if own is None:
        here = describe_truth(truth)
        here = "as many images and boxes, with other values" if here == origin.ground_truth else here
        raise SetupError(
            f"{results} has the detections on {origin.describe()}, and {truth.source} is another set ({here}): give "
            "the ground truth that they were made for, or run the model on this set. If only boxes were corrected "
            f"since, remove {origin_path(results)}."
        )
    return dict(zip(own.class_ids, own.class_names, strict=True))
