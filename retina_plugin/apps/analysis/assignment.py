"""``assignment``: shows which anchors of given images the matcher labels positive, ignored or background."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.structures import Boxes, pairwise_iou
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ...errors import SetupError, printable
from ...files import write_csv, write_json
from ...prepare import prepare
from ..report.files import make_output_folder
from ..report.plots import PALETTE, save_figure
from .anchor_layout import AnchorLayout, build_detector
from .anchor_picture import UNREACHED_COLOR, outlines, read_picture
from .ground_truth import GroundTruth, load_ground_truth, resize_boxes

__all__ = ["run"]

DPI = 100
# Inches: a small image is enlarged so that the text fits, a large one reduced.
WIDTH_LIMITS = (11.0, 19.0)
BORDER = 0.06  # of the image's side, shown around it for anchors that extend beyond it
BOX_COLORS = PALETTE[:-1]  # without grey, which is too faint on an image


@dataclass(frozen=True)
class Assignment:
    """Labels of the R anchors of one image with M boxes, the same as in training."""

    boxes: Tensor  # (M, 4) XYXY, pixels of the resized image
    anchors: Tensor  # (R, 4)
    levels: Tensor  # (R,) index of the anchor's level
    matched: Tensor  # (R,) index of the box that the anchor overlaps most; undefined without boxes
    labels: Tensor  # (R,) 1 positive, -1 ignored, 0 background
    overlaps: Tensor  # (R,) IoU with that box
    best_iou: Tensor  # (M,) best IoU of the box with any anchor

    def counts(self, label: int, num_levels: int) -> Tensor:
        """Count the anchors with this label by box and level, (M, L)."""
        chosen = self.labels == label
        index = self.matched[chosen] * num_levels + self.levels[chosen]
        return torch.bincount(index, minlength=len(self.boxes) * num_levels).reshape(-1, num_levels)[: len(self.boxes)]

    def total(self, label: int) -> int:
        return int((self.labels == label).sum())


def run(args: argparse.Namespace) -> None:
    """Label the anchors, print and draw them and write the files; see ``docs/analysis.md``.

    Raises:
        SetupError: a mistake in the config or the data set, or an image that is not in the set or cannot be read.
    """
    cfg = prepare(args.config_file, args.opts, use="model").cfg
    model, layout = build_detector(cfg, args.config_file)
    truth = load_ground_truth(cfg)
    images = find_images(truth, args.image_id, args.file_name, args.index)
    folder = make_output_folder(args.output)
    boxes, sizes = resize_boxes(truth, cfg)
    stems = [Path(file_name).stem for file_name in truth.content.file_names]
    results = []
    for image in images:
        picture = read_picture(truth, image)
        rows = np.flatnonzero(truth.images == image)
        assignment = assign_anchors(model, layout, boxes[rows], sizes[image])
        results.append(_describe(truth, image, rows, assignment, layout, sizes[image]))
        stem = Path(truth.content.file_names[image]).stem
        if stems.count(stem) > 1:  # several images have this name: add its index
            stem = f"{stem}_{image}"
        figure = assignment_figure(picture, tuple(sizes[image].tolist()), assignment, results[-1])
        save_figure(figure, folder / f"assignment_{stem}", dpi=DPI)
        result = results[-1]
        levels = ", ".join(f"{name} {number}" for name, number in result["positives_by_level"].items())
        summary = (
            f"{Path(result['file_name']).name} (id {result['image_id']}): {len(result['boxes'])} boxes, "
            f"{result['boxes_without_positive']} without a positive anchor; {result['positives']} positive ({levels}), "
            f"{result['ignored']} ignored, {result['negatives']} background"
        )
        print(printable(summary))
    keys = ("IOU_THRESHOLDS", "IOU_LABELS", "ALLOW_LOW_QUALITY_MATCHES", "LOW_QUALITY_MIN_IOU")
    rules = {key: cfg.MODEL.RETINANET[key] for key in keys}
    write_json(folder / "assignment.json", {"rules": rules, "images": results})
    columns = ("file_name", "image_id", "annotation_id", "x", "y", "width", "height", "best_iou", "positives")
    rows = [
        [image["file_name"], image["image_id"], box["annotation_id"], *box["bbox"], box["best_iou"], box["positives"],
         *box["positives_by_level"].values(), box["ignored"]]
        for image in results
        for box in image["boxes"]
    ]  # fmt: skip
    write_csv(folder / "assignment.csv", [*columns, *layout.level_names, "ignored"], rows)
    print(f"{folder}: {len(images)} pictures, assignment.json and assignment.csv")


def find_images(
    truth: GroundTruth, image_ids: Sequence[str], file_names: Sequence[str], indices: Sequence[int]
) -> list[int]:
    """Find the indices of the requested images, each once and in that order; [0] if none is requested.

    Raises:
        SetupError: the set has no such id, name or index.
    """
    content = truth.content
    number = len(content.image_ids)
    by_id = {str(image_id): i for i, image_id in reversed(list(enumerate(content.image_ids)))}
    # Keys are the whole path and the file name alone.
    by_name = {
        key: i for i in reversed(range(number)) for key in (content.file_names[i], Path(content.file_names[i]).name)
    }
    found = []
    for image_id in image_ids:
        if image_id not in by_id:
            raise SetupError(
                f"--image-id {image_id} is not an image of {content.name}: its {number} ids begin with "
                f"{', '.join(map(str, content.image_ids[:3]))}."
            )
        found.append(by_id[image_id])
    for name in file_names:
        if name not in by_name:
            examples = ", ".join(Path(file_name).name for file_name in content.file_names[:3])
            raise SetupError(f"--file-name {name} is not an image of {content.name}: its names begin with {examples}.")
        found.append(by_name[name])
    for index in indices:
        if not 0 <= index < number:
            raise SetupError(f"--index must be from 0 to {number - 1} for {content.name}, got {index}.")
        found.append(index)
    return list(dict.fromkeys(found)) or [0]


@torch.no_grad()
def assign_anchors(model: RetinaNet, layout: AnchorLayout, boxes: Tensor, size: Tensor) -> Assignment:
    """Label the anchors of one padded image as ``label_anchors`` of ``model`` does in training.

    Args:
        model: its anchor generator and matcher are used.
        layout: the grid of its anchors.
        boxes: (M, 4) XYXY, pixels of the resized image; with M = 0 every anchor is background.
        size: (2,) height and width of the resized image.
    """
    grid = layout.grid_sizes(size[None])[0].tolist()
    per_level = model.anchor_generator([torch.zeros(1, 1, *rows_columns) for rows_columns in grid])
    anchors = Boxes.cat(per_level)
    overlaps = pairwise_iou(Boxes(boxes.float()), anchors)  # (M, R)
    matched, labels = model.anchor_matcher(overlaps)
    levels = torch.cat([torch.full((len(level),), i) for i, level in enumerate(per_level)])
    some = len(boxes) > 0
    return Assignment(
        boxes=boxes.float(),
        anchors=anchors.tensor,
        levels=levels,
        matched=matched,
        labels=labels if some else torch.zeros_like(labels),
        overlaps=overlaps.max(dim=0).values if some else torch.zeros(len(anchors)),
        best_iou=overlaps.max(dim=1).values,
    )


def _describe(
    truth: GroundTruth, image: int, rows: np.ndarray, assignment: Assignment, layout: AnchorLayout, size: Tensor
) -> dict:
    """Collect the numbers of one image and of its boxes."""
    content = truth.content
    names = layout.level_names
    positives = assignment.counts(1, len(names))
    ignored = assignment.counts(-1, len(names)).sum(dim=1)
    boxes = []
    for m, row in enumerate(truth.rows[rows].tolist()):
        known = content.annotation_ids[row]
        boxes.append(
            {
                "annotation_id": None if known == "none" else known,
                "bbox": content.boxes[row].tolist(),
                "resized_xyxy": [round(v, 2) for v in assignment.boxes[m].tolist()],
                "best_iou": round(float(assignment.best_iou[m]), 4),
                "positives": int(positives[m].sum()),
                "positives_by_level": dict(zip(names, positives[m].tolist(), strict=True)),
                "ignored": int(ignored[m]),
            }
        )
    return {
        "file_name": content.file_names[image],
        "image_id": content.image_ids[image],
        "resized": {"width": int(size[1]), "height": int(size[0])},
        "anchors": len(assignment.anchors),
        "positives": assignment.total(1),
        "positives_by_level": dict(zip(names, positives.sum(dim=0).tolist(), strict=True)),
        "ignored": assignment.total(-1),
        "negatives": assignment.total(0),
        "boxes_without_positive": sum(box["positives"] == 0 for box in boxes),
        "boxes": boxes,
    }


def assignment_figure(picture: np.ndarray, size: tuple[int, int], assignment: Assignment, numbers: dict) -> Figure:
    """Draw the image, its ignored anchors (thin, dashed), positive anchors (solid) and boxes (thick).

    Args:
        picture: (H, W, 3) uint8 RGB, the original image.
        size: height and width of the resized image, the frame of the drawing.
        assignment: labels of its anchors.
        numbers: the image's entry in ``assignment.json``.
    """
    height, width = size
    figure_width = min(max(width / DPI, WIDTH_LIMITS[0]), WIDTH_LIMITS[1])
    figure = Figure(figsize=(figure_width, figure_width * height / width + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="bilinear", alpha=0.7)
    anchors, labels = assignment.anchors.numpy(), assignment.labels.numpy()
    matched = assignment.matched.numpy()
    boxes = assignment.boxes.numpy()
    colors = np.array(box_colors(boxes) or BOX_COLORS[:1])
    ignored, positive = labels == -1, labels == 1
    # Thinner lines for small boxes, which thick ones would cover.
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) * figure_width * DPI / width
    line_width = float(np.clip(np.median(sides) / 25, 1.5, 3)) if len(boxes) else 3.0
    axes.add_collection(
        outlines(anchors[ignored], colors=colors[matched[ignored]], linewidths=0.6, linestyles=(0, (4, 3)), alpha=0.45)
    )
    axes.add_collection(outlines(anchors[positive], colors=colors[matched[positive]], linewidths=1.0, alpha=0.9))
    alone = np.array([box["positives"] == 0 for box in numbers["boxes"]], dtype=bool)
    axes.add_collection(outlines(boxes, colors="white", linewidths=line_width + 1.8))
    axes.add_collection(outlines(boxes[~alone], colors=colors[: len(boxes)][~alone], linewidths=line_width))
    axes.add_collection(outlines(boxes[alone], colors=UNREACHED_COLOR, linewidths=line_width))
    for x1, y1, x2, y2 in boxes[alone]:
        axes.plot([x1, x2, np.nan, x1, x2], [y1, y2, np.nan, y2, y1], color=UNREACHED_COLOR, linewidth=1.5)
    shown = np.concatenate([anchors[positive], [[0, 0, width, height]]])
    left, top = np.maximum(shown[:, :2].min(axis=0), [-BORDER * width, -BORDER * height])
    right, bottom = np.minimum(shown[:, 2:].max(axis=0), [(1 + BORDER) * width, (1 + BORDER) * height])
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    levels = ", ".join(f"{name} {number}" for name, number in numbers["positives_by_level"].items())
    axes.set_title(
        f"{Path(numbers['file_name']).name} (id {numbers['image_id']}) at {width} x {height} px, "
        f"{len(numbers['boxes'])} boxes\npositive anchors by level: {levels}", fontsize=11,
    )  # fmt: skip
    grey = "0.35"
    handles = [
        Line2D([], [], color=grey, linewidth=3, label="ground truth, a colour a box"),
        Line2D([], [], color=grey, linewidth=1, label=f"positive anchors: {numbers['positives']}"),
        Line2D([], [], color=grey, linewidth=0.8, linestyle="--",
               label=f"ignored: {numbers['ignored']}; background, not drawn: {numbers['negatives']}"),
        Line2D([], [], color=UNREACHED_COLOR, linewidth=3, marker="x",
               label=f"box without a positive anchor: {numbers['boxes_without_positive']}"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=10)
    return figure


def box_colors(boxes: np.ndarray) -> list[str]:
    """Choose a colour for each of (M, 4) XYXY boxes so that boxes of one colour are far apart; [] for none."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    chosen: list[int] = []
    for m in range(len(boxes)):
        distance = np.full(len(BOX_COLORS), np.inf)
        for other, color in enumerate(chosen):
            distance[color] = min(distance[color], float(np.linalg.norm(centers[m] - centers[other])))
        chosen.append(int(distance.argmax()))  # an unused colour has an infinite distance
    return [BOX_COLORS[color] for color in chosen]
