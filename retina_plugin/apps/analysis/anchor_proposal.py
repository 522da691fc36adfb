"""Whether fitted anchors are worth it: fitted on one half of the images, judged on the other, and said as YAML."""

from dataclasses import dataclass, field

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from torch import Tensor

from .anchor_fit import AnchorFit, Objective, fit_octaves, fit_sizes, gain_with_error, split_images
from .coverage_numbers import AnchorCoverage

__all__ = ["Proposal", "propose"]

FIT_BOXES = 4000  # that a candidate is scored on: a mean IoU (deviation 0.15) then has an error of 0.002
# Share of held-out boxes that a proposal may lose to no anchor at all. A guard: none would let one odd box decide.
LOSS_ALLOWED = 0.005


@dataclass(frozen=True)
class Proposal:
    """The outcome of fitting."""

    # None: keep the anchors of the first config.
    fit: AnchorFit | None
    # One sentence with its numbers.
    decision: str
    # To paste into a config: the fitted anchors, or those that are kept.
    yaml: str
    numbers: dict = field(default_factory=dict)
    # The fitted anchors are better by the objective and reach fewer boxes.
    is_trade_off: bool = False


def propose(
    first: AnchorCoverage,
    cfg: CfgNode,
    boxes: Tensor,
    images: np.ndarray,
    *,
    by_coverage: bool,
    max_anchors: int,
    margin: float,
    seed: int,
) -> Proposal:
    """Fit anchors on half of the images and judge them on the other half, against the first config's.

    Octave anchors come first; sizes level by level are tried if those are not worth it.

    Args:
        first: coverage under the first config.
        cfg: that config.
        boxes: (M, 4) XYXY of its resized images, M >= 1; images: (M,) index of their images.
        by_coverage: maximise the share of boxes that reach the upper IOU_THRESHOLDS, else the mean best IoU.
        max_anchors: most anchors a point.
        margin: gain of the objective on the held-out half from which on a fit is worth it.
        seed: of the halves and of the boxes drawn from them.
    """
    settings = {"max_anchors": max_anchors, "margin": margin, "seed": seed, "against": first.name}
    if len(np.unique(images)) < 2:
        decision = f"keep the anchors of {first.name}: all boxes are in one image, and none is left to judge others on"
        return Proposal(None, decision, _keep_yaml(cfg, decision), settings)
    half = split_images(images, seed=seed)
    chosen = np.flatnonzero(half)
    if len(chosen) > FIT_BOXES:
        chosen = np.random.default_rng(seed).choice(chosen, FIT_BOXES, replace=False)
    data = _Data(boxes, images, chosen, ~half)
    # The fit must not reach fewer boxes than the first config's anchors do.
    thresholds, best = tuple(cfg.MODEL.RETINANET.IOU_THRESHOLDS), torch.from_numpy(first.best[data.fitted_on])
    limits = tuple((t, float((best < t).double().mean())) for t in thresholds)
    objective = Objective(max(thresholds) if by_coverage else None, limits)
    fit_boxes, grids = boxes[data.fitted_on], first.grids[torch.from_numpy(images)[data.fitted_on]]
    octaves = fit_octaves(first.layout, fit_boxes, grids, max_anchors=max_anchors, objective=objective)
    tried = {"octaves": (octaves, _measure(octaves, first, data, objective))}
    if not _is_worth(tried["octaves"][1], margin):
        sizes = fit_sizes(octaves, first.layout, fit_boxes, grids, objective=objective)
        tried["sizes"] = (sizes, _measure(sizes, first, data, objective))
    # At most one of them is worth it, for nothing is tried after that.
    fit, result = max(tried.values(), key=lambda found: (_is_worth(found[1], margin), found[1]["gain"]))
    worth = _is_worth(result, margin)
    decision = _decision(worth, result, first.name, objective, margin)
    held_out = {"held_out_boxes": int(data.held_out.sum()), "held_out": {kind: r for kind, (_, r) in tried.items()}}
    numbers = {**settings, "objective": str(objective), "boxes_fitted_on": len(data.fitted_on), **held_out}
    text = _fit_yaml(fit, decision) if worth else _keep_yaml(cfg, decision)
    return Proposal(fit if worth else None, decision, text, numbers, worth and _lost(result) > 0)


@dataclass(frozen=True)
class _Data:
    """Boxes (M, 4), the index (M,) of their images, indices of the boxes to fit on, mask (M,) of those to judge on."""

    boxes: Tensor
    images: np.ndarray
    fitted_on: np.ndarray
    held_out: np.ndarray


def _measure(fit: AnchorFit, first: AnchorCoverage, data: _Data, objective: Objective) -> dict[str, float]:
    """The objective and the share of boxes not reached on the held-out images, before and after; gain and its error."""
    images = data.images[data.held_out]
    boxes, grids = data.boxes[torch.from_numpy(data.held_out)], first.grids[torch.from_numpy(images)]
    best, _ = fit.layout(first.layout).best_anchors(boxes, grids)
    before = torch.from_numpy(first.best[data.held_out])
    values = {"default": objective.per_box(before).numpy(), "fitted": objective.per_box(best).numpy()}
    gain, error = gain_with_error(values["fitted"] - values["default"], images)
    return {
        **{name: float(value.mean()) for name, value in values.items()},
        "gain": gain,
        "standard_error": error,
        "default_not_reached": float((before < first.lower_iou).double().mean()),
        "fitted_not_reached": float((best < first.lower_iou).double().mean()),
    }


def _is_worth(result: dict[str, float], margin: float) -> bool:
    # Two standard errors: a gain that chance alone gives once in 40 times is none.
    beyond_chance = result["gain"] > 2 * result["standard_error"]
    return result["gain"] >= margin and beyond_chance and _lost(result) <= LOSS_ALLOWED


def _lost(result: dict[str, float]) -> float:
    """Share of the held-out boxes that the fitted anchors reach less."""
    return result["fitted_not_reached"] - result["default_not_reached"]


def _decision(worth: bool, result: dict[str, float], first: str, objective: Objective, margin: float) -> str:
    price = _lost(result) > 0
    digits = 2 if price else 1  # a loss of LOSS_ALLOWED or less would often not show in one
    numbers = (
        f"on held-out images {objective} {result['fitted']:.3f} instead of {result['default']:.3f} "
        f"(gain {result['gain']:+.3f}, standard error {result['standard_error']:.3f}), {'but ' if price else ''}"
        f"{100 * result['fitted_not_reached']:.{digits}f}% of the boxes not reached instead of "
        f"{100 * result['default_not_reached']:.{digits}f}%"
    )
    if not worth:
        beaten = result["gain"] >= margin and result["gain"] > 2 * result["standard_error"]
        reason = "leave more boxes without an anchor" if beaten else f"do not beat them by {margin:g} beyond chance"
        return f"keep the anchors of {first}: fitted ones {reason} ({numbers})"
    return f"fitted anchors{', a better fit that reaches fewer boxes' if price else ''}: {numbers}"


def _fit_yaml(fit: AnchorFit, decision: str) -> str:
    ratios = f"ASPECT_RATIOS: [[{', '.join(f'{ratio:g}' for ratio in fit.ratios)}]]"
    if fit.sizes is None:
        name, sizes = "OctaveAnchorGenerator", [f"BASE_SIZE: {fit.base_size}", f"SCALES_PER_OCTAVE: {fit.scales}"]
    else:
        name, sizes = "DefaultAnchorGenerator", [f"SIZES: {[list(level) for level in fit.sizes]}"]
    return _yaml(decision, [f'NAME: "{name}"', *sizes, ratios])


def _keep_yaml(cfg: CfgNode, decision: str) -> str:
    generator = yaml.safe_load(cfg.MODEL.ANCHOR_GENERATOR.dump())
    octaves = generator["NAME"] == "OctaveAnchorGenerator"
    keys = ("NAME", *(("BASE_SIZE", "SCALES_PER_OCTAVE") if octaves else ("SIZES",)), "ASPECT_RATIOS")
    # A scalar is followed by YAML's end-of-document mark, on a line of its own.
    values = [yaml.safe_dump(generator[key], default_flow_style=True, width=1000).splitlines()[0] for key in keys]
    return _yaml(decision, [f"{key}: {value}" for key, value in zip(keys, values, strict=True)])


def _yaml(decision: str, keys: list[str]) -> str:
    return f"# {decision}\nMODEL:\n  ANCHOR_GENERATOR:\n" + "".join(f"    {key}\n" for key in keys)
