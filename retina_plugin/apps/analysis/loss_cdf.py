"""``loss-cdf``: cumulative focal loss over positives and negatives for several gammas (paper Figure 4, Sec. 5.1).

A positive is a positive anchor with its labelled class; a negative is any other (anchor, class) pair that is not
ignored, since each is one binary term of the loss (paper Sec. 4). The paper does not define its "windows":
``--negatives anchors`` counts each background anchor once, with its most confident class.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from torch import Tensor

from ... import ops
from ...config.load import config_difference, load_base_config
from ...errors import SetupError
from ...files import write_csv, write_json
from ...ops import LossCDF
from ...training.hooks.loss_shares import HARDEST_NEGATIVES, HARDEST_POSITIVES
from ...training.trained_model import load_trained_model
from ..report.files import make_output_folder
from ..report.plots import LINE_STYLES, PALETTE, make_figure, save_figure
from .loss_curves import parse_numbers
from .model_inputs import build_mapper, load_analysis_config, map_images, sample_records

__all__ = ["run"]

REPORT_EVERY = 50  # images


@dataclass(frozen=True)
class LossSpread:
    """Loss curves of positives and negatives."""

    positives: LossCDF
    negatives: LossCDF

    def numbers(self, gammas: list[float]) -> dict:
        """Counts and, for each gamma, shares of the loss in the hardest examples; None if a group is empty."""
        num_pos, num_neg = self.positives.num_examples, self.negatives.num_examples
        return {
            "num_positives": num_pos,
            "num_negatives": num_neg,
            "negatives_per_positive": num_neg / num_pos if num_pos else None,
            "by_gamma": {
                f"{gamma:g}": {
                    "share_of_hardest_20_percent_positives": self.positives.share_of_hardest(gamma, HARDEST_POSITIVES),
                    "share_of_hardest_1_percent_negatives": self.negatives.share_of_hardest(gamma, HARDEST_NEGATIVES),
                    "mean_loss_of_a_positive": self.positives.total(gamma) / num_pos if num_pos else None,
                    "mean_loss_of_a_negative": self.negatives.total(gamma) / num_neg if num_neg else None,
                }
                for gamma in gammas
            },
        }


def run(args: argparse.Namespace) -> None:
    """Run the model over the images and write the curves.

    Raises:
        SetupError: a mistake in the arguments, the config, the data or the weights; or no anchor is positive.
    """
    gammas = parse_numbers("--gamma", args.gamma)
    cfg, names = load_analysis_config(args, ["MODEL.WEIGHTS", args.weights] if args.weights else [])
    records = sample_records(names, max_images=args.max_images, seed=args.seed, filter_empty=False)
    folder = make_output_folder(args.output)
    model, report, _ = load_trained_model(cfg)
    spread = measure_spread(model, cfg, records, gammas, hardest_class_only=args.negatives == "anchors")
    if not spread.positives.num_examples or not spread.negatives.num_examples:
        raise SetupError(
            f"None of the {len(records)} images gives both positive and negative anchors: take other ones."
        )
    changed = config_difference(cfg, load_base_config(args.config_file))
    content = {
        "config_file": args.config_file,
        "difference_from_base": {key: now for key, (_, now) in changed.items()},
        "weights": report.path,
        "weights_loaded": str(report),
        "datasets": names,
        "images": len(records),
        "seed": args.seed,
        "negatives": args.negatives,
        **spread.numbers(gammas),
    }
    _draw(folder / "loss_cdf", spread, gammas)
    rows = [
        (group, gamma, *point)
        for group, cdf in (("positives", spread.positives), ("negatives", spread.negatives))
        for gamma in gammas
        for point in torch.stack(cdf.curve(gamma), dim=1).tolist()
    ]
    write_csv(folder / "loss_cdf.csv", ("group", "gamma", "fraction_of_examples", "cumulative_loss"), rows)
    write_json(folder / "loss_cdf.json", content)
    print(
        f"{len(records)} images: {content['num_positives']:,} positives, {content['num_negatives']:,} negatives "
        f"({args.negatives}), {content['negatives_per_positive']:,.0f} negatives per positive\n"
        "gamma  loss in the hardest 20 % of positives  loss in the hardest 1 % of negatives"
    )
    for gamma, shares in content["by_gamma"].items():
        pos, neg = shares["share_of_hardest_20_percent_positives"], shares["share_of_hardest_1_percent_negatives"]
        print(f"{gamma:>5}  {100 * pos:37.1f} %  {100 * neg:34.1f} %")
    print(f"{folder / 'loss_cdf'}.png, .svg, .csv, .json")


@torch.no_grad()
def measure_spread(
    model: RetinaNet, cfg: CfgNode, records: list[dict], gammas: list[float], *, hardest_class_only: bool
) -> LossSpread:
    """Run ``model`` in eval mode on one image after the other; memory does not grow with their number."""
    spread = LossSpread(ops.focal_loss_cdf(gammas), ops.focal_loss_cdf(gammas))
    for i, image in enumerate(map_images(records, build_mapper(cfg, resize="test")), start=1):
        logits, labels = predict_logits(model, image)
        try:
            spread.positives.update(ops.positive_terms(logits, labels))
            spread.negatives.update(ops.negative_terms(logits, labels, hardest_class_only=hardest_class_only))
        except ValueError as error:
            raise SetupError(
                f"{image['file_name']}: {error}. Give a checkpoint of a run that did not diverge."
            ) from error
        if i % REPORT_EVERY == 0:
            print(f"{i} of {len(records)} images", flush=True)
    return spread


def predict_logits(model: RetinaNet, image: dict) -> tuple[Tensor, Tensor]:
    """Compute logits (R, K) and labels (R,) of a mapped image with ``instances``, with the model's own parts."""
    images = model.preprocess_image([image])
    features = model.backbone(images.tensor)
    features = [features[name] for name in model.head_in_features]
    dense = model._transpose_dense_predictions(model.head(features), [model.num_classes, 4])
    labels, _ = model.label_anchors(model.anchor_generator(features), [image["instances"].to(model.device)])
    return torch.cat(dense[0], dim=1)[0], labels[0]


def _draw(stem: Path, spread: LossSpread, gammas: list[float]) -> None:
    figure, panels = make_figure(2)
    groups = (("foreground", spread.positives), ("background", spread.negatives))
    for panel, (group, cdf) in zip(panels, groups, strict=True):
        for i, gamma in enumerate(gammas):
            style = LINE_STYLES[i % len(LINE_STYLES)]
            panel.plot(*cdf.curve(gamma), style, color=PALETTE[i % len(PALETTE)], linewidth=2, label=f"γ = {gamma:g}")
        panel.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"fraction of {group} examples", ylabel="cumulative normalised loss")
        panel.set_title(f"{group}, {cdf.num_examples:,} examples", fontsize="medium")
        panel.legend(loc="upper left")
    save_figure(figure, stem)
