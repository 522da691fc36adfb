"""Fits anchors on half of the images, tests them on the other half, and proposes the better ones as YAML."""

from dataclasses import dataclass, field

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from torch import Tensor

from ...config.safe_yaml import parse_yaml
from .anchor_fit import AnchorFit, Objective, fit_octaves, fit_sizes, gain_with_error, split_images
from .coverage_numbers import AnchorCoverage

__all__ = ["Proposal", "propose"]

FIT_BOXES = 4000  # boxes to fit on at most: a mean IoU (deviation 0.15) then has an error of 0.002
# Share of held-out boxes that may become unreached by the proposal. With 0 a single outlier would decide.
LOSS_ALLOWED = 0.005


@dataclass(frozen=True)
class Proposal:
    """Outcome of fitting."""

    # None: keep the anchors of the first config.
    fit: AnchorFit | None
    # A sentence with the numbers.
    decision: str
    # Text to paste into a config: the fitted anchors, or the present ones.
    yaml: str
    numbers: dict = field(default_factory=dict)
    # True if the fitted anchors are better by the objective but reach fewer boxes.
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
    """Fit anchors on half of the images and compare them on the other half with the first config's anchors.

    Octave anchors are tried first, then sizes level by level if the octave anchors are not better by ``margin``.

    Args:
        first: coverage of the first config.
        cfg: the first config.
        boxes: (M, 4) XYXY in its resized images, M >= 1.
        images: (M,) index of each box's image.
        by_coverage: True to maximise the share of boxes that reach the upper IOU_THRESHOLDS, else the mean best IoU.
        max_anchors: largest number of anchors at a point.
        margin: smallest gain of the objective on the held-out half for which a fit is proposed.
        seed: seed of the halves and of the boxes drawn from them.
    """
    settings = {"max_anchors": max_anchors, "margin": margin, "seed": seed, "against": first.name}
    if len(np.unique(images)) < 2:
        decision = f"keep the anchors of {first.name}: all boxes are in one image, and none is left to test others on"
        return Proposal(None, decision, _keep_yaml(cfg, decision), settings)
    half = split_images(images, seed=seed)
    chosen = np.flatnonzero(half)
    if len(chosen) > FIT_BOXES:
        chosen = np.random.default_rng(seed).choice(chosen, FIT_BOXES, replace=False)
    data = _Data(boxes, images, chosen, ~half)
    # On the boxes it is fitted to, the fit must reach no fewer than the first config's anchors.
    thresholds, best = tuple(cfg.MODEL.RETINANET.IOU_THRESHOLDS), torch.from_numpy(first.best[data.fitted_on])
    limits = tuple((t, float((best < t).double().mean())) for t in thresholds)
    objective = Objective(max(thresholds) if by_coverage else None, limits)
    fit_boxes, grids = boxes[data.fitted_on], first.grids[torch.from_numpy(images)[data.fitted_on]]
    octaves = fit_octaves(first.layout, fit_boxes, grids, max_anchors=max_anchors, objective=objective)
    tried = {"octaves": (octaves, _measure(octaves, first, data, objective))}
    if not _is_worth(tried["octaves"][1], margin):
        sizes = fit_sizes(octaves, first.layout, fit_boxes, grids, objective=objective)
        tried["sizes"] = (sizes, _measure(sizes, first, data, objective))
    # At most one of them is worth it, since nothing more is tried then.
    fit, result = max(tried.values(), key=lambda found: (_is_worth(found[1], margin), found[1]["gain"]))
    worth = _is_worth(result, margin)
    decision = _decision(worth, result, first.name, objective, margin)
    held_out = {"held_out_boxes": int(data.held_out.sum()), "held_out": {kind: r for kind, (_, r) in tried.items()}}
    numbers = {**settings, "objective": str(objective), "boxes_fitted_on": len(data.fitted_on), **held_out}
    if worth:
        ratios = f"ASPECT_RATIOS: [[{', '.join(f'{ratio:g}' for ratio in fit.ratios)}]]"
        if fit.sizes is None:
            name, keys = "OctaveAnchorGenerator", [f"BASE_SIZE: {fit.base_size}", f"SCALES_PER_OCTAVE: {fit.scales}"]
        else:
            name, keys = "DefaultAnchorGenerator", [f"SIZES: {[list(level) for level in fit.sizes]}"]
        text = _yaml(decision, [f'NAME: "{name}"', *keys, ratios])
    else:
        text = _keep_yaml(cfg, decision)
    return Proposal(fit if worth else None, decision, text, numbers, worth and _lost(result) > 0)


@dataclass(frozen=True)
class _Data:
    """Boxes (M, 4), indices (M,) of their images, indices of the boxes to fit on, mask (M,) of the held-out boxes."""

    boxes: Tensor
    images: np.ndarray
    fitted_on: np.ndarray
    held_out: np.ndarray


def _measure(fit: AnchorFit, first: AnchorCoverage, data: _Data, objective: Objective) -> dict[str, float]:
    """Measure objective and share of unreached boxes on the held-out images, before and after; gain and its error."""
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
    # Two standard errors: chance alone exceeds them once in 40 times.
    beyond_chance = result["gain"] > 2 * result["standard_error"]
    return result["gain"] >= margin and beyond_chance and _lost(result) <= LOSS_ALLOWED


def _lost(result: dict[str, float]) -> float:
    """Share of the held-out boxes that only the first config's anchors reach, net."""
    return result["fitted_not_reached"] - result["default_not_reached"]


def _decision(worth: bool, result: dict[str, float], first: str, objective: Objective, margin: float) -> str:
    price = _lost(result) > 0
    digits = 2 if price else 1  # one digit would often not show a loss of LOSS_ALLOWED or less
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


def _keep_yaml(cfg: CfgNode, decision: str) -> str:
    generator = parse_yaml(cfg.MODEL.ANCHOR_GENERATOR.dump(), "MODEL.ANCHOR_GENERATOR")[1]
    octaves = generator["NAME"] == "OctaveAnchorGenerator"
    keys = ("NAME", *(("BASE_SIZE", "SCALES_PER_OCTAVE") if octaves else ("SIZES",)), "ASPECT_RATIOS")
    # After a scalar, YAML adds a line with its end-of-document mark.
    values = [yaml.safe_dump(generator[key], default_flow_style=True, width=1000).splitlines()[0] for key in keys]
    return _yaml(decision, [f"{key}: {value}" for key, value in zip(keys, values, strict=True)])


def _yaml(decision: str, keys: list[str]) -> str:
    return f"# {decision}\nMODEL:\n  ANCHOR_GENERATOR:\n" + "".join(f"    {key}\n" for key in keys)
