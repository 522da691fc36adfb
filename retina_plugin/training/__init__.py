"""The training loop: ``RetinaTrainer``, and its hooks and optimizer for use in your own trainer."""

from .build import build_hooks, build_optimizer
from .trainer import RetinaTrainer

__all__ = ["RetinaTrainer", "build_hooks", "build_optimizer"]
