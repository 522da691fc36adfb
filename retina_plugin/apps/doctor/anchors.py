"""Compares the anchors of a config with the boxes of its training sets: unreached boxes, and better anchors."""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode

from ...data.box_sense import box_places
from ...data.dataset_content import DatasetContent
from ...errors import SetupError
from ...findings import NOTE, WARNING, Finding, finding
from ..analysis.anchor_layout import AnchorLayout
from ..analysis.anchor_proposal import propose
from ..analysis.coverage_numbers import box_groups, measure_coverage
from ..analysis.ground_truth import join_ground_truth, resize_boxes

__all__ = ["examine_anchors"]

_MARGIN = 0.01  # gain in mean best IoU, the same as in `retina analyze anchors`
# A larger share of boxes without an anchor gives a warning. The paper's own anchors miss 13 % of the boxes of 33 COCO
# images (retina_R50_FPN.yaml), most of them small, and train well.
_UNREACHED_SHARE = 0.2


def examine_anchors(
    cfg: CfgNode, layout: AnchorLayout, contents: Sequence[DatasetContent], *, fit: bool = True
) -> tuple[list[Finding], dict]:
    """Measure how well the anchors cover the boxes at the test-time image size; propose better anchors if ``fit``.

    Returns:
        The findings and the numbers; {} if there is no box to measure.
    """
    try:
        truth = join_ground_truth(list(contents))
    except SetupError as error:
        return [finding("anchors-not-checked", "DATASETS.TRAIN", str(error))], {}
    frame = resize_boxes(truth, cfg)
    coverage = measure_coverage("this config", cfg, layout, truth.images, frame)
    found = []
    missed = coverage.unreached[np.argsort(coverage.best[coverage.unreached], kind="stable")]
    if len(missed):
        share = len(missed) / len(coverage.best)
        what = (
            f"{len(missed)} of {len(coverage.best)} boxes ({100 * share:.1f} %) overlap every anchor by less than "
            f"IOU_THRESHOLDS {coverage.lower_iou:g}"
        )
        severity = WARNING if share >= _UNREACHED_SHARE else NOTE
        places = box_places(truth.content, truth.rows[missed], [f"best IoU {coverage.best[m]:.2f}" for m in missed])
        found.append(finding("boxes-unreached", "MODEL.ANCHOR_GENERATOR", what, severity=severity, places=places))
    groups = box_groups(truth.boxes)
    numbers = {"boxes": len(truth.boxes), **coverage.as_dict(groups)}
    if fit:
        proposal = propose(
            coverage, cfg, frame[0], truth.images,
            by_coverage=False, max_anchors=layout.per_point, margin=_MARGIN, seed=0,
        )  # fmt: skip
        numbers["proposal"] = {"decision": proposal.decision, "yaml": proposal.yaml, **proposal.numbers}
        if proposal.fit:
            keys = [line.strip() for line in proposal.yaml.splitlines() if line.startswith("    ")]
            remedy = f"Paste under MODEL:  ANCHOR_GENERATOR: {{{', '.join(keys)}}}"
            if proposal.is_trade_off:
                remedy = f"Keep yours, or, if the better fit is worth the boxes lost: {remedy[0].lower()}{remedy[1:]}"
            found.append(finding("anchors-better", "MODEL.ANCHOR_GENERATOR", proposal.decision, remedy))
    return found, numbers
