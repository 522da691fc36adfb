"""Detectron2's ``DatasetMapper``, naming the file that fails, with an augmentation that can be repeated."""

from contextlib import nullcontext

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper

from ..errors import SetupError
from .order import POSITION_KEY
from .randomness import seeded

__all__ = ["RetinaDatasetMapper"]


class RetinaDatasetMapper(DatasetMapper):
    """Equal to Detectron2's, except that an image which cannot be read or prepared is named in the error.

    Pillow's own errors ("image file is truncated") do not say which file of the data set they mean, and a worker
    process adds only its own traceback. A record with a place in the training order is augmented by that place and
    the run's seed, in any process.
    """

    @configurable
    def __init__(self, *, seed: int, **of_detectron2):
        """
        Args:
            seed: >= 0, of the augmentation of records with a place.
            of_detectron2: arguments of Detectron2's mapper.
        """
        super().__init__(**of_detectron2)
        self._seed = seed

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        return {**super().from_config(cfg, is_train), "seed": max(cfg.SEED, 0)}

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: a record in Detectron2's format; it is not changed.

        Returns:
            the model's input for it.

        Raises:
            SetupError: naming the file, with the first error as its cause.
        """
        placed = POSITION_KEY in dataset_dict
        try:
            with seeded(self._seed, dataset_dict[POSITION_KEY]) if placed else nullcontext():
                return super().__call__(dataset_dict)
        except Exception as error:  # a damaged file makes Pillow raise OSError, SyntaxError, ValueError ...
            raise SetupError(
                f"Image {dataset_dict.get('file_name')} (image id {dataset_dict.get('image_id')}) cannot be read or "
                f"prepared: {type(error).__name__}: {error}. Fix it, or remove its record."
            ) from error
