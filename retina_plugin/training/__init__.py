"""The training loop: ``RetinaTrainer``, and the hooks and optimizer that it builds, for a trainer of one's own."""

from .build import build_hooks, build_optimizer
from .trainer import RetinaTrainer

__all__ = ["RetinaTrainer", "build_hooks", "build_optimizer"]
