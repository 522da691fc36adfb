"""Former home of ``RetinaTrainer``."""

from ..training.trainer import RetinaTrainer

__all__ = ["RetinaTrainer"]
