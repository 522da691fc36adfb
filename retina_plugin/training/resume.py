"""The changes that a resumed run may make: they take effect and are recorded, others are refused by name."""

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from torch import nn

from ..config.load import config_difference, load_config, with_values
from ..data.class_names import config_class_names
from ..errors import SetupError, name_some
from ..weights.checkpointer import loading_rules
from ..weights.files import ResumePoint
from ..weights.manifest import build_manifest, disagreements
from .trial import build_on_trial

__all__ = ["PARAMETERS", "check_resume", "follow_schedule", "names_of_trained", "resume_optimizer"]

# Entry of a trainer's state: names of the trained parameters, in the order of the optimizer's state.
PARAMETERS = "trained_parameters"
# Keys whose change leaves it the same training, so that it needs no word.
MAY_CHANGE = (
    "ANALYSIS.", "DATALOADER.NUM_WORKERS", "DATASETS.TEST", "DATASETS.VAL_IMAGES", "DATASETS.VAL_JSON",
    "DATASETS.VAL_PATH", "MODEL.DEVICE", "MODEL.LOAD", "MODEL.WEIGHTS", "OUTPUT_DIR", "SEED",
    "SOLVER.CHECKPOINT_PERIOD", "SOLVER.EARLY_STOPPING", "SOLVER.FAULTS", "SOLVER.KEEP_CHECKPOINTS", "SOLVER.MAX_ITER",
    "SOLVER.STEPS", "TEST.", "VIS_PERIOD",
)  # fmt: skip
# Keys that say which layers there are, and which are trained.
BUILDS = (
    "MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.", "MODEL.RESNETS.", "MODEL.FPN.", "MODEL.ANCHOR_GENERATOR.",
    "MODEL.RETINANET.IN_FEATURES", "MODEL.RETINANET.NORM", "MODEL.RETINANET.NUM_", "MODEL.ROI_", "MODEL.RPN.",
    "MODEL.PROPOSAL_GENERATOR.", "MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.WEIGHT_DECAY_BIAS",
)  # fmt: skip
# Values that a run begins with: the checkpoint has what training made of them.
START_VALUES = ("MODEL.RETINANET.PRIOR_PROB", "MODEL.RETINANET.USE_PRIOR", "MODEL.RETINANET.NORMALIZER.INITIAL")
# Words of MODEL.LOAD for the weights that a run begins with; the others allow a file to be loaded at all.
START_WORDS = frozenset({"by_class_name", "skip_mismatched", "partial"})


def check_resume(cfg: CfgNode, resumed: ResumePoint) -> tuple[CfgNode, list[str]]:
    """Compare the config of a resumed run with the checkpoint, and with the ``config.yaml`` of the run so far.

    Call it in the main process, which has the content of the checkpoint.

    Returns:
        the config to record, in which what has no effect any more (MODEL.WEIGHTS) is as it was; and a warning for each
        key that changes the training.

    Raises:
        SetupError: a change cannot take effect; the message names it and a way to the same end.
    """
    before = _config_so_far(Path(cfg.OUTPUT_DIR, "config.yaml"))
    changed = config_difference(cfg, before) if before else {}
    # As JSON: YAML gives back the inner tuples of a default as lists.
    changed = {key: (old, new) for key, (old, new) in changed.items() if json.dumps(old) != json.dumps(new)}
    _check_state(cfg, resumed, changed)
    if start := [key for key in START_VALUES if key in changed]:
        raise _refusal(cfg, resumed, f"{_clause(start[0], changed)}, which only the start of a run reads")
    warnings = []
    if before:
        cfg, warnings = _keep_start(cfg, before)
    effective = [key for key in changed if not key.startswith(MAY_CHANGE)]
    done, last = resumed.iterations, DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size()).SOLVER.MAX_ITER
    if done > last:
        raise SetupError(
            f"--resume: SOLVER.MAX_ITER is {last}, and the run in {cfg.OUTPUT_DIR} has done {done} "
            f"iterations: set it to {done} or more."
        )
    if done == last and effective:
        raise SetupError(
            f"--resume: {_clause(effective[0], changed)}, but no iteration is left in which it could take effect: set "
            f"SOLVER.MAX_ITER above {done}."
        )
    for key in effective:
        old, new = changed[key]
        warnings.append(f"--resume with another {key}: {new!r} from iteration {done} on, {old!r} so far")
    return cfg, warnings


def _config_so_far(path: Path) -> CfgNode | None:
    """Load the config that a run has left; None if there is none, or it is not one of ours (a LazyConfig)."""
    try:
        return load_config(path) if path.is_file() else None
    except SetupError:
        return None


def _keep_start(cfg: CfgNode, before: CfgNode) -> tuple[CfgNode, list[str]]:
    """Give MODEL.WEIGHTS and the words of MODEL.LOAD that a resumed run does not read the values of its start."""
    words = loading_rules(cfg) - START_WORDS | loading_rules(before) & START_WORDS
    kept = {"WEIGHTS": before.MODEL.WEIGHTS, "LOAD": "+".join(sorted(words)) or "strict"}
    if loading_rules(cfg) == words:
        del kept["LOAD"]
    kept = {key: value for key, value in kept.items() if cfg.MODEL[key] != value}
    return with_values(cfg, {f"MODEL.{key}": value for key, value in kept.items()}), [
        f"--resume does not read MODEL.{key} {cfg.MODEL[key]}: the run began with {value or 'random weights'}"
        for key, value in kept.items()
    ]


def _check_state(cfg: CfgNode, resumed: ResumePoint, changed: dict[str, tuple]) -> None:
    """Compare the model and optimizer of ``cfg`` with those of the checkpoint.

    Raises:
        SetupError: they are of another kind or shape.
    """
    content = resumed.content or {}
    model, optimizer = build_on_trial(cfg)
    manifest, classes = content.get("manifest") or {}, config_class_names(cfg)
    found, ignores = manifest.get("classes"), "ignore_manifest" in loading_rules(cfg)
    if found and classes and list(found) != list(classes) and not (ignores and len(found) == len(classes)):
        pairs = enumerate(zip_longest(found, classes))
        i, before, now = next((i, old or "none", new or "none") for i, (old, new) in pairs if old != new)
        clause = f"class {i} is {now} in the data of {len(classes)} classes, {before} in the run of {len(found)}"
        raise _refusal(cfg, resumed, clause, "by_class_name")
    if not ignores:
        if clauses := disagreements(manifest, build_manifest(cfg, model, classes)):
            raise _refusal(cfg, resumed, "; ".join(clauses), "ignore_manifest")
    if clause := _other_layers(model, content.get("model") or {}):
        words = "by_class_name+skip_mismatched" if found and classes else "skip_mismatched"
        raise _refusal(cfg, resumed, _because(changed, clause), words)
    trainer = content.get("trainer") or {}
    state = (trainer.get("_trainer") or {}).get("optimizer")
    names = names_of_trained(model, optimizer)
    if state and (clause := _other_optimizer(state, trainer.get(PARAMETERS), optimizer, names)):
        raise _refusal(cfg, resumed, _because(changed, clause))


def _other_optimizer(
    state: dict[str, Any], names_before: list[str] | None, optimizer: torch.optim.Optimizer, names: list[str]
) -> str:
    """Return why ``optimizer`` cannot go on from a state; "" if it can. See ``resume_optimizer``."""
    groups = state["param_groups"]
    before, now = ("SGD" if "momentum" in group[0] else "AdamW" for group in (groups, optimizer.param_groups))
    if before != now:
        return f"SOLVER.OPTIMIZER is {now}, and the checkpoint has the state of {before}"
    if names_before is None:  # a checkpoint of Detectron2, or of an earlier release
        sizes = [[len(group["params"]) for group in part] for part in (groups, optimizer.param_groups)]
        return "" if sizes[0] == sizes[1] else "the optimizer's state is of other layers, or of layers in other groups"
    added, left_out = (name_some(sorted({*a} - {*b}), 2) for a, b in ((names, names_before), (names_before, names)))
    clauses = [f"it trains {added}, which the run did not"] if added else []
    clauses += [f"it freezes {left_out}, which the run trains"] if left_out else []
    return ", and ".join(clauses)


def _other_layers(model: nn.Module, state: dict[str, Any]) -> str:
    """Return the first difference between the layers of a model and those of a checkpoint; "" if there is none."""
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in state.items()}
    for key in sorted(ours.keys() | theirs.keys()):
        # No output depends on num_batches_tracked, and older checkpoints lack the rest.
        if key.endswith("num_batches_tracked") or ours.get(key) == theirs.get(key):
            continue
        if key in ours and key in theirs:
            return f"{key} has shape {ours[key]} by the config and {theirs[key]} in the checkpoint"
        return f"{key} is {'a layer of the config' if key in ours else 'in the checkpoint'} alone"
    return ""


def _because(changed: dict[str, tuple], clause: str) -> str:
    """Put the changed keys that explain ``clause`` before it."""
    keys = [key for key in changed if key.startswith(BUILDS)]
    return f"{name_some((_clause(key, changed) for key in keys), 2)}: {clause}" if keys else clause


def _clause(key: str, changed: dict[str, tuple]) -> str:
    old, new = changed[key]
    return f"{key} is {new!r}, {old!r} so far"


def _refusal(cfg: CfgNode, resumed: ResumePoint, clause: str, words: str = "") -> SetupError:
    """Make the error about a change that a resumed run cannot follow."""
    rules = f" MODEL.LOAD {words}" if words else ""
    return SetupError(
        f"--resume: {clause}.\nGo on as before, or start a new run from these weights: without --resume, with another "
        f"OUTPUT_DIR and MODEL.WEIGHTS {resumed.path}{rules}."
    )


def names_of_trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the names of the parameters of an optimizer, in the order in which its state numbers them."""
    model = getattr(model, "module", model)  # under DistributedDataParallel
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def resume_optimizer(
    state: dict[str, Any], optimizer: torch.optim.Optimizer, names: list[str], names_before: list[str] | None
) -> dict[str, Any]:
    """Return a state with the moments of ``state``, and the rates and decays that ``optimizer`` was built with.

    Args:
        state: the optimizer's state in a checkpoint.
        names, names_before: the trained parameters, in the order of the optimizer and of ``state``; None if unknown,
            for the same order. Another rate of biases, say, groups them in another order.

    Raises:
        SetupError: the state is of another kind of optimizer, or of other layers.
    """
    if clause := _other_optimizer(state, names_before, optimizer, names):
        raise SetupError(f"The run cannot be resumed: {clause}. Go on as before, or start a new run from its weights.")
    moments = state["state"]
    if names_before and names_before != names:
        places = {name: i for i, name in enumerate(names)}
        moments = {places[names_before[i]]: moment for i, moment in moments.items()}
    return {"state": moments, "param_groups": optimizer.state_dict()["param_groups"]}


def follow_schedule(scheduler: LRMultiplier, optimizer: torch.optim.Optimizer) -> None:
    """Set the rates of ``optimizer`` to those of the schedule at its iteration, with the base rates of the config."""
    scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = rate
