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
    thresholds = tuple(cfg.MODEL.RETINANET.IOU_THRESHOLDS)
    settings = {"max_anchors": max_anchors, "margin": margin, "seed": seed, "against": first.name}
    if len(np.unique(images)) < 2:
        decision = f"keep the anchors of {first.name}: all boxes are in one image, and none is left to judge others on"
        return Proposal(None, decision, _keep_yaml(cfg, decision), settings)
    half = split_images(images, seed=seed)
    chosen = np.flatnonzero(half)
    if len(chosen) > FIT_BOXES:
        chosen = np.random.default_rng(seed).choice(chosen, FIT_BOXES, replace=False)
    default = torch.from_numpy(first.best)
    objective = Objective(
        max(thresholds) if by_coverage else None,
        tuple((t, float((default[chosen] < t).double().mean())) for t in thresholds),
    )
    fitted_on = boxes[chosen], first.grids[torch.from_numpy(images)[chosen]]
    tried = {"octaves": fit_octaves(first.layout, *fitted_on, max_anchors=max_anchors, objective=objective)}
    results = {"octaves": _judge(tried["octaves"], first, boxes, images, ~half, objective)}
    if not _is_worth(results["octaves"], margin):
        tried["sizes"] = fit_sizes(tried["octaves"], first.layout, *fitted_on, objective=objective)
        results["sizes"] = _judge(tried["sizes"], first, boxes, images, ~half, objective)
    kind = next((kind for kind in tried if _is_worth(results[kind], margin)), None)
    best = kind or max(results, key=lambda tried_kind: results[tried_kind]["gain"])
    decision = _decision(kind, results[best], first.name, objective, margin)
    numbers = {
        **settings,
        "objective": str(objective),
        "boxes_fitted_on": len(chosen),
        "held_out_boxes": int((~half).sum()),
        "held_out": results,
    }
    if kind is None:
        return Proposal(None, decision, _keep_yaml(cfg, decision), numbers)
    return Proposal(tried[kind], decision, _fit_yaml(tried[kind], decision), numbers)


def _judge(
    fit: AnchorFit, first: AnchorCoverage, boxes: Tensor, images: np.ndarray, held_out: np.ndarray, objective: Objective
) -> dict[str, float]:
    """The objective and the share of boxes not reached on the held-out images, before and after; gain and its error."""
    grids = first.grids[torch.from_numpy(images[held_out])]
    best, _ = fit.layout(first.layout).best_anchors(boxes[torch.from_numpy(held_out)], grids)
    before = torch.from_numpy(first.best[held_out])
    values = {"default": objective.per_box(before).numpy(), "fitted": objective.per_box(best).numpy()}
    gain, error = gain_with_error(values["fitted"] - values["default"], images[held_out])
    return {
        **{name: float(value.mean()) for name, value in values.items()},
        "gain": gain,
        "standard_error": error,
        "default_not_reached": float((before < first.lower_iou).double().mean()),
        "fitted_not_reached": float((best < first.lower_iou).double().mean()),
    }


def _is_worth(result: dict[str, float], margin: float) -> bool:
    lost = result["fitted_not_reached"] - result["default_not_reached"]
    # Two standard errors: a gain that chance alone gives once in 40 times is none.
    return result["gain"] >= margin and result["gain"] > 2 * result["standard_error"] and lost <= LOSS_ALLOWED


def _decision(kind: str | None, result: dict[str, float], first: str, objective: Objective, margin: float) -> str:
    numbers = (
        f"on held-out images {objective} {result['fitted']:.3f} instead of {result['default']:.3f} "
        f"(gain {result['gain']:+.3f}, standard error {result['standard_error']:.3f}), "
        f"{100 * result['fitted_not_reached']:.1f}% of the boxes not reached instead of "
        f"{100 * result['default_not_reached']:.1f}%"
    )
    if kind is None:
        beaten = result["gain"] >= margin and result["gain"] > 2 * result["standard_error"]
        reason = "leave more boxes without an anchor" if beaten else f"do not beat them by {margin:g} beyond chance"
        return f"keep the anchors of {first}: fitted ones {reason} ({numbers})"
    return f"fitted anchors: {numbers}"


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
