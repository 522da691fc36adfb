"""The class layer of a checkpoint for another list of classes: taken class by class, by name."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["CLASS_LAYER", "ClassMap", "map_class_layer"]

# The parameters with a row for each anchor and class, A * K, class the faster: keys of Detectron2's RetinaNetHead.
CLASS_LAYER = ("head.cls_score.weight", "head.cls_score.bias")


class ClassMap:
    """Which class of a checkpoint each class of the config is."""

    def __init__(self, found: Sequence[str], wanted: Sequence[str]):
        """
        Args:
            found: names of the checkpoint's classes, by class id.
            wanted: names of the config's.
        """
        self.found, self.wanted = list(found), list(wanted)
        self.new = [name for name in self.wanted if name not in self.found]
        self.left_out = [name for name in self.found if name not in self.wanted]

    @property
    def is_identity(self) -> bool:
        return self.found == self.wanted

    def __str__(self) -> str:
        taken = [name for name in self.wanted if name in self.found]
        parts = [f"{len(taken)} classes taken by name" + (f" ({', '.join(taken)})" if taken else "")]
        if self.new:
            parts.append(f"new, starting with the prior: {', '.join(self.new)}")
        if self.left_out:
            parts.append(f"left out: {len(self.left_out)}")
        return "class layer: " + "; ".join(parts)


@torch.no_grad()
def map_class_layer(state: dict[str, Tensor], initial: dict[str, Tensor], classes: ClassMap) -> None:
    """Replace the class layer in ``state`` by one for the wanted classes.

    Args:
        state: of the checkpoint, (A * K_found, ...) under the keys CLASS_LAYER; changed in place.
        initial: of the model as built, (A * K_wanted, ...): what a class has that the checkpoint lacks.
    """
    kept = [(classes.found.index(name), i) for i, name in enumerate(classes.wanted) if name in classes.found]
    for key in CLASS_LAYER:
        if key not in state or key not in initial:
            continue
        old = torch.as_tensor(state[key]).unflatten(0, (-1, len(classes.found)))  # (A * K, ...) -> (A, K, ...)
        new = initial[key].detach().clone().cpu().unflatten(0, (-1, len(classes.wanted)))
        if len(old) == len(new):  # another number of anchors is for the check of shapes
            for source, target in kept:
                new[:, target] = old[:, source].to(new.dtype)
            state[key] = new.flatten(0, 1)
