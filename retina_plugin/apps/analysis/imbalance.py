"""``imbalance``: counts positive, ignored and negative anchors of a data set, and computes the loss before training.

The labels need only anchors and ground truth, so the network is built but not run. At the first step every output has
the probability given by its bias (paper Sec. 3.3 and 4.1), so the loss of each group has a closed form.
"""

import argparse
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng
from matplotlib.axes import Axes
from torch import Tensor

from ...files import write_csv, write_json
from ...modeling.losses import OHEMLoss, build_classification_loss
from ...ops.anchors import grid_sizes
from ...ops.dense_loss import Elementwise, term_weights
from ..report.files import make_output_folder
from ..report.plots import PALETTE, make_figure, save_figure, set_log_scale
from .model_inputs import build_mapper, load_analysis_config, map_images, sample_records

__all__ = ["run"]

logger = logging.getLogger("retina_plugin")

BAR_WIDTH = 0.28  # three bars and a gap make 1
GROUPS = ("positive", "ignored", "negative")


@dataclass(frozen=True)
class InitialLoss:
    """Loss of one positive and one negative term at the first step, and the sums over all images, not normalized."""

    of_a_positive: float
    of_a_negative: float
    positives: float
    negatives: float

    @property
    def share_of_positives(self) -> float:
        """Share of the positives in the loss, in [0, 1]; 0 if the loss is 0."""
        total = self.positives + self.negatives
        return self.positives / total if total else 0.0


def initial_loss(
    num_positive: int, num_negative: int, *, num_classes: int, prior: float, value: Elementwise, alpha: float | None
) -> InitialLoss:
    """Compute the first loss if each output has the probability ``prior``.

    Args:
        num_positive, num_negative: numbers of anchors. A positive anchor has 1 positive and K - 1 negative terms, a
            negative anchor K negative terms.
        num_classes: K >= 1.
        prior: in (0, 1): 0.01 in the paper, 0.5 for a bias of 0.
        value: the loss as a function of x_t, elementwise.
        alpha: weight of positive terms; negative terms get ``1 - alpha``. None: both have weight 1.
    """
    logit = torch.logit(torch.tensor(prior, dtype=torch.float64))
    pos_weight, neg_weight = term_weights(alpha)
    positive, negative = pos_weight * float(value(logit)), neg_weight * float(value(-logit))
    num_negative_terms = (num_positive + num_negative) * num_classes - num_positive
    return InitialLoss(positive, negative, num_positive * positive, num_negative_terms * negative)


def count_labels(labels: Tensor, num_classes: int) -> list[int]:
    """Count positive, ignored and negative anchors among labels (R,): in [0, K), below 0, and K."""
    ignored, negative = int((labels < 0).sum()), int((labels == num_classes).sum())
    return [len(labels) - ignored - negative, ignored, negative]


def run(args: argparse.Namespace) -> None:
    """Label the anchors of the images and write the counts.

    Raises:
        SetupError: a mistake in the arguments, the config or the data.
    """
    cfg, names = load_analysis_config(args, ["MODEL.DEVICE", "cpu"])
    filter_empty = args.split == "train" and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    records = sample_records(names, max_images=args.max_images, seed=args.seed, filter_empty=filter_empty)
    folder = make_output_folder(args.output)
    resize = "augment" if args.augment else args.split
    if resize == "train" and cfg.INPUT.CROP.ENABLED:
        logger.warning("Counted on whole images, but training crops (INPUT.CROP): --augment counts on crops.")
    counts, strides = _count(cfg, records, resize, args.seed)
    retinanet, classification_loss = cfg.MODEL.RETINANET, build_classification_loss(cfg)
    num_positive, _, num_negative = counts.sum(dim=0).tolist()
    loss = initial_loss(
        num_positive, num_negative, num_classes=retinanet.NUM_CLASSES,
        prior=retinanet.PRIOR_PROB if retinanet.USE_PRIOR else 0.5,  # sigmoid(0)
        value=classification_loss.value, alpha=classification_loss.alpha,
    )  # fmt: skip
    loss_numbers = {
        "loss": retinanet.CLS_LOSS_NAME,
        "of_a_positive_term": loss.of_a_positive,
        "of_a_negative_term": loss.of_a_negative,
        "positives_per_image": loss.positives / len(records),
        "negatives_per_image": loss.negatives / len(records),
        "share_of_positives": loss.share_of_positives,
    }
    if isinstance(classification_loss, OHEMLoss):
        loss_numbers["note"] = "of all anchors: OHEM's selection among them is not included"
    per_image = (torch.cat([counts, counts.sum(dim=0, keepdim=True)]).double() / len(records)).tolist()
    levels = [f"P{int(math.log2(stride))}" for stride in strides]  # stride 8 is P3 (paper Sec. 4)
    rows = dict(zip([*levels, "all"], per_image, strict=True))
    content = {
        "config_file": args.config_file,
        "datasets": names,
        "images": len(records),
        "seed": args.seed,
        "resize": resize,
        "anchors_per_image": {level: dict(zip(GROUPS, row, strict=True)) for level, row in rows.items()},
        "negatives_per_positive": _ratio(rows["all"][2], rows["all"][0]),
        "initial_loss": loss_numbers,
    }
    _draw(folder / "imbalance", content)
    write_csv(folder / "imbalance.csv", ("level", *GROUPS), [(level, *row) for level, row in rows.items()])
    write_json(folder / "imbalance.json", content)
    print(_table(content))
    print(f"{folder / 'imbalance'}.png, .svg, .csv, .json")


def _count(cfg: CfgNode, records: list[dict], resize: str, seed: int) -> tuple[Tensor, list[int]]:
    """Count anchors by level and group over all images, (L, 3) int64; return also the strides of the levels."""
    model = build_model(cfg)
    strides = list(model.anchor_generator.strides)
    counts = torch.zeros(len(strides), len(GROUPS), dtype=torch.int64)
    seed_all_rng(seed)
    for image in map_images(records, build_mapper(cfg, resize=resize)):
        size = torch.tensor([image["image"].shape[1:]])
        [sizes] = grid_sizes(size, strides, size_divisibility=model.backbone.size_divisibility).tolist()
        # The generator reads only the sizes of the maps.
        anchors = model.anchor_generator([torch.zeros(1).expand(1, 1, *size) for size in sizes])
        labels, _ = model.label_anchors(anchors, [image["instances"]])
        per_level = labels[0].split([len(boxes) for boxes in anchors])
        counts += torch.tensor([count_labels(level, model.num_classes) for level in per_level])
    return counts, strides


def _ratio(negative: float, positive: float) -> float | None:
    return negative / positive if positive else None


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"  # significant digits, since a share may be 10^-6


def _table(content: dict) -> str:
    lines = [f"{content['images']} images of {', '.join(content['datasets'])}; anchors per image:"]
    lines.append(f"{'level':>5} {'positive':>10} {'ignored':>10} {'negative':>12} {'negatives per positive':>23}")
    for level, row in content["anchors_per_image"].items():
        ratio = _ratio(row["negative"], row["positive"])
        text = f"{ratio:23,.0f}" if ratio is not None else f"{'-':>23}"
        lines.append(f"{level:>5} {row['positive']:10,.1f} {row['ignored']:10,.1f} {row['negative']:12,.1f} {text}")
    loss = content["initial_loss"]
    share = loss["share_of_positives"]
    lines += [
        f"initial {loss['loss']}: {loss['of_a_positive_term']:.6g} a positive term, "
        f"{loss['of_a_negative_term']:.4g} a negative term",
        f"sum per image: positives {loss['positives_per_image']:,.4g} ({_percent(share)}), "
        f"negatives {loss['negatives_per_image']:,.4g} ({_percent(1 - share)})",
    ]
    return "\n".join(lines + [loss["note"]] if "note" in loss else lines)


def _draw(stem: Path, content: dict) -> None:
    """Plot the anchors by level and group, and the initial loss of both groups, on log scales."""
    figure, (left, right) = make_figure(2)
    rows = content["anchors_per_image"]
    for i, group in enumerate(GROUPS):
        x = [k + (i - 1) * BAR_WIDTH for k in range(len(rows))]
        counts = [row[group] for row in rows.values()]
        left.bar(x, counts, BAR_WIDTH, label=group, color=PALETTE[i])
        _write_zeros(left, x, counts, PALETTE[i])
    left.set_xticks(range(len(rows)), rows)
    left.set(xlabel="pyramid level", ylabel="anchors per image")
    # The legend goes above the bars, which leave no corner free.
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(GROUPS), frameon=False)
    loss = content["initial_loss"]
    sums = [loss["positives_per_image"], loss["negatives_per_image"]]
    bars = right.bar(["positive", "negative"], sums, 2 * BAR_WIDTH, color=[PALETTE[0], PALETTE[2]])
    shares = (loss["share_of_positives"], 1 - loss["share_of_positives"])
    right.bar_label(bars, [_percent(share) if total else "" for share, total in zip(shares, sums, strict=True)])
    _write_zeros(right, range(2), sums, PALETTE[0])
    right.set(xlabel="terms", ylabel="initial loss per image")
    right.set_title(loss["loss"], fontsize="medium")
    for panel in (left, right):
        set_log_scale(panel, "y")
        panel.grid(axis="x", visible=False)
    save_figure(figure, stem)


def _write_zeros(panel: Axes, x: Iterable[float], heights: list[float], color: str) -> None:
    """Write "0" at the foot of each bar of height 0, which a log axis cannot show."""
    for place, height in zip(x, heights, strict=True):
        if not height:
            panel.text(place, 0, "0", color=color, ha="center", va="bottom", transform=panel.get_xaxis_transform())
