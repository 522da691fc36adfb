"""Writes the files of ``anchors`` and formats its table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...files import write_csv, write_json
from .anchor_proposal import Proposal
from .coverage_numbers import THRESHOLDS, AnchorCoverage
from .ground_truth import GroundTruth

__all__ = ["coverage_table", "list_unreached", "write_coverage"]

LISTED = 5  # boxes printed at most; the file lists all


def write_coverage(
    folder: Path, truth: GroundTruth, coverages: Sequence[AnchorCoverage], groups: dict[str, np.ndarray],
    proposal: Proposal | None,
) -> None:  # fmt: skip
    """Write coverage.json, coverage.csv, boxes.csv and unreachable.csv into ``folder``."""
    content = truth.content
    numbers = proposal and {"decision": proposal.decision, **proposal.numbers}
    write_json(
        folder / "coverage.json",
        {
            "data": {"name": content.name, "source": content.source, "images": len(truth.sizes),
                     "boxes": len(truth.boxes), "boxes_without_area": truth.dropped},
            "configs": {coverage.name: coverage.as_dict(groups) for coverage in coverages},
            "proposal": numbers,
        },
    )  # fmt: skip
    rows = [row for coverage in coverages for row in coverage.rows(groups)]
    write_csv(folder / "coverage.csv", list(rows[0]), [list(row.values()) for row in rows])
    described = [_describe_box(truth, m) for m in range(len(truth.boxes))]
    columns = ("file_name", "image_id", "annotation_id", "x", "y", "width", "height")
    best = np.stack([coverage.best.round(4) for coverage in coverages], axis=1).tolist()
    write_csv(
        folder / "boxes.csv",
        [*columns, *(f"best_iou {coverage.name}" for coverage in coverages)],
        [[*box, *ious] for box, ious in zip(described, best, strict=True)],
    )
    write_csv(
        folder / "unreachable.csv",
        ["config", "best_iou", *columns],
        [[c.name, round(float(c.best[m]), 4), *described[m]] for c in coverages for m in c.unreached],
    )


def list_unreached(truth: GroundTruth, coverage: AnchorCoverage) -> str:
    """Describe the boxes that fit the anchors least, a line each; "" if all are reached."""
    unreached = coverage.unreached[np.argsort(coverage.best[coverage.unreached], kind="stable")]
    if not len(unreached):
        return ""
    lines = [f"not reached by {coverage.name} (the worst of {len(unreached)}; all are in unreachable.csv)"]
    for m in unreached[:LISTED]:
        file_name, image_id, annotation_id, *box = _describe_box(truth, m)
        x, y, width, height = (f"{value:g}" for value in box)
        lines.append(
            f"  best IoU {coverage.best[m]:.2f}: {Path(file_name).name} (image id {image_id}), annotation id "
            f"{annotation_id or '-'}, {width} x {height} px at ({x}, {y})"
        )
    return "\n".join(lines)


def _describe_box(truth: GroundTruth, m: int) -> list:
    content, row = truth.content, truth.rows[m]
    image, annotation_id = truth.images[m], content.annotation_ids[row]
    # "none" stands for an annotation without an id.
    known = "" if annotation_id == "none" else annotation_id
    return [content.file_names[image], content.image_ids[image], known, *content.boxes[row].tolist()]


def coverage_table(coverages: Sequence[AnchorCoverage], groups: dict[str, np.ndarray]) -> str:
    """Format coverage by group of boxes and config, without empty groups, then cost and missed boxes of each config."""
    width = max(len(coverage.name) for coverage in coverages)
    head = "".join(f"  >= {t:g}" for t in THRESHOLDS)
    lines = [f"{'boxes':14} {'':{width}} {'number':>7}  mean best IoU{head}"]
    tables = [coverage.rows(groups) for coverage in coverages]
    for rows in zip(*tables, strict=True):
        for i, row in enumerate(rows if rows[0]["boxes"] else ()):
            shares = "".join(f"{100 * row[f'coverage_{t:g}']:7.1f}%" for t in THRESHOLDS)
            group = row["group"] if i == 0 else ""
            lines.append(f"{group:14} {row['config']:{width}} {row['boxes']:7d}  {row['mean_best_iou']:13.3f}{shares}")
    lines += ["", f"{'':{width}} anchors a point  an image  class layer, G mult-adds  not reached  shapes never best"]
    for c in coverages:
        unused = f"{len(c.unused_shapes())} of {len(c.layout.shapes())}"
        lines.append(
            f"{c.name:{width}} {c.layout.per_point:15d} {c.anchors_per_image:9.0f} {c.class_layer_macs / 1e9:25.3f} "
            f"{len(c.unreached):12d} {unused:>18}"
        )
    return "\n".join(lines)
