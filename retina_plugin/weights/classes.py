"""Fit the class layer of a checkpoint to the classes of the data, by class name."""

import logging
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from ..errors import SetupError

__all__ = ["CLASS_LAYER", "fit_class_layer"]

logger = logging.getLogger(__name__)

# Keys of Detectron2's RetinaNetHead whose A * K rows belong to anchors and classes, the class varying fastest.
CLASS_LAYER = ("head.cls_score.weight", "head.cls_score.bias")


def fit_class_layer(
    state: dict[str, Tensor], initial: dict[str, Tensor], found: Sequence[str] | None, wanted: Sequence[str] | None,
    path: str, rules: Collection[str], *, resuming: bool,
) -> list[str]:  # fmt: skip
    """Fit the class layer of ``state`` to the classes of the data.

    Args:
        state: weights of the checkpoint; changed in place.
        initial: state dict of the model as built.
        found, wanted: class names of the checkpoint and of the data, by class id; None if unknown.
        path: path of the checkpoint, for messages.
        rules: words of MODEL.LOAD.
        resuming: True for a resumed run, which must keep its classes.

    Returns:
        the wanted classes that the checkpoint lacks; their rows start from the prior.

    Raises:
        SetupError: the classes differ, or the names that a mapping needs are unknown.
    """
    if not (found and wanted):
        if "by_class_name" in rules and CLASS_LAYER[0] in state:
            raise SetupError(
                f"MODEL.LOAD is by_class_name, but {path if wanted else 'the data set'} does not have the names of its "
                "classes. Set it to strict, or take a checkpoint of this plugin and a data set with names."
            )
        return []
    found, wanted = list(found), list(wanted)
    if found == wanted:
        return []
    if "by_class_name" in rules:
        map_class_layer(state, initial, found, wanted)
        taken = [name for name in wanted if name in found]
        new = [name for name in wanted if name not in found]
        text = f"class layer: {len(taken)} classes taken by name" + (f" ({', '.join(taken)})" if taken else "")
        text += f"; new, starting with the prior: {', '.join(new)}" if new else ""
        unused = sum(name not in wanted for name in found)
        logger.info("%s", text + (f"; left out: {unused}" if unused else ""))
        return new
    if "skip_mismatched" in rules:
        for key in CLASS_LAYER:
            state.pop(key, None)
    elif len(found) == len(wanted) and "ignore_manifest" not in rules:  # a different number already fails by its shape
        i = next(i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
        remedy = (
            "Go on with the data set that the run began with, or start a new run."
            if resuming
            else "Set MODEL.LOAD by_class_name to take the class layer by name, skip_mismatched to start it from "
            "scratch, or ignore_manifest if they are the same classes under other names."
        )
        raise SetupError(
            f"{path} has other classes than the data: class {i} is {found[i]!r} in the checkpoint "
            f"and {wanted[i]!r} in the data.\n{remedy}"
        )
    return []


@torch.no_grad()
def map_class_layer(
    state: dict[str, Tensor], initial: dict[str, Tensor], found: Sequence[str], wanted: Sequence[str]
) -> None:
    """Replace the class layer in ``state`` by one for the wanted classes.

    Args:
        state: state dict of the checkpoint, (A * K_found, ...) under the keys CLASS_LAYER; changed in place.
        initial: state dict of the model as built, (A * K_wanted, ...); gives the rows of classes that the checkpoint
            lacks.
        found, wanted: class names of the checkpoint and of the data, by class id.
    """
    kept = [(found.index(name), i) for i, name in enumerate(wanted) if name in found]
    for key in CLASS_LAYER:
        if key not in state or key not in initial:
            continue
        old = torch.as_tensor(state[key]).unflatten(0, (-1, len(found)))  # (A * K, ...) -> (A, K, ...)
        new = initial[key].detach().clone().cpu().unflatten(0, (-1, len(wanted)))
        if len(old) == len(new):  # a different number of anchors already fails by its shape
            for source, target in kept:
                new[:, target] = old[:, source].to(new.dtype)
            state[key] = new.flatten(0, 1)
