"""``SafeMatcher``: Detectron2's labels wherever a box overlaps an anchor, and none where it overlaps no anchor."""

import pytest
import torch
from detectron2.modeling.matcher import Matcher

from retina_plugin import SafeMatcher

THRESHOLDS, LABELS = [0.4, 0.5], [0, -1, 1]  # paper Sec. 4


def safe_matcher(allow_low_quality_matches=True, low_quality_min_iou=0.0, thresholds=THRESHOLDS, labels=LABELS):
    return SafeMatcher(
        thresholds,
        labels,
        allow_low_quality_matches=allow_low_quality_matches,
        low_quality_min_iou=low_quality_min_iou,
    )


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("boxes, anchors", [(1, 1), (1, 50), (7, 200), (40, 30)])
def test_matcher_equals_detectron2_where_every_box_overlaps(boxes, anchors, allow):
    for scale in (0.2, 0.45, 1.0):  # all below the thresholds, around them, all of the range
        # Rounded, so that there are ties: several best anchors of a box, several best boxes of an anchor.
        iou = (torch.rand(boxes, anchors) * scale).mul(50).round().div(50)
        iou[iou.max(dim=1).values == 0, 0] = 0.02
        expected = Matcher(THRESHOLDS, LABELS, allow_low_quality_matches=allow)(iou)
        for ours, theirs in zip(safe_matcher(allow)(iou), expected, strict=True):
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_matcher_box_without_overlap_makes_no_anchor_positive():
    # Box 0 overlaps nothing; box 1 is matched by the last anchor.
    iou = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.1, 0.45, 0.6]])
    matches, labels = safe_matcher()(iou)
    assert labels.tolist() == [0, 0, -1, 1]
    assert matches[3] == 1
    # Why the matcher is not Detectron2's: 0 is that box's best IoU, and every anchor has it. If Detectron2 fixes it,
    # this line fails and modeling/matcher.py can go.
    assert Matcher(THRESHOLDS, LABELS, allow_low_quality_matches=True)(iou)[1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("floor, best_iou, label", [(0.4, 0.39, 0), (0.4, 0.4, 1), (0.4, 0.45, 1), (0.0, 0.01, 1)])
def test_matcher_low_quality_floor(floor, best_iou, label):
    # 0.4 is the rule of the authors' code: a best anchor that is background by its IoU stays background.
    iou = torch.tensor([[0.2, best_iou, 0.0]]) if best_iou > 0.2 else torch.tensor([[0.0, best_iou, 0.0]])
    assert safe_matcher(low_quality_min_iou=floor)(iou)[1].tolist() == [0, label, 0]


def test_matcher_low_quality_keeps_every_tie_and_no_other():
    iou = torch.tensor([[0.3, 0.3, 0.29, 0.0]])
    assert safe_matcher()(iou)[1].tolist() == [1, 1, 0, 0]


def test_matcher_low_quality_anchor_keeps_its_own_best_box():
    # Anchor 0 is the best of box 0 (0.2), but overlaps box 1 more (0.3): positive, with box 1 as its target.
    iou = torch.tensor([[0.2, 0.1], [0.3, 0.9]])
    matches, labels = safe_matcher()(iou)
    assert matches.tolist() == [1, 1] and labels.tolist() == [1, 1]


def test_matcher_without_low_quality_matches():
    assert safe_matcher(False)(torch.tensor([[0.2, 0.39, 0.0], [0.45, 0.0, 0.0]]))[1].tolist() == [-1, 0, 0]


def test_matcher_bounds_are_half_open():
    # [0, 0.4) background, [0.4, 0.5) ignored, [0.5, 1] positive (paper Sec. 4).
    below = torch.nextafter(torch.tensor([0.4, 0.5]), torch.tensor(0.0)).tolist()
    iou = torch.tensor([[0.0, below[0], 0.4, below[1], 0.5, 1.0]])
    assert safe_matcher(False)(iou)[1].tolist() == [0, 0, -1, -1, 1, 1]


def test_matcher_other_thresholds_and_labels():
    matcher = safe_matcher(False, thresholds=(0.3,), labels=(0, 1))
    assert matcher(torch.tensor([[0.2, 0.3, 0.7]]))[1].tolist() == [0, 1, 1]


def test_matcher_no_boxes_is_all_background():
    matches, labels = safe_matcher()(torch.zeros(0, 5))
    assert labels.tolist() == [0] * 5 and matches.tolist() == [0] * 5


def test_matcher_leaves_its_arguments_alone():
    iou, thresholds, labels = torch.rand(3, 9), [0.4, 0.5], [0, -1, 1]
    before = iou.clone()
    safe_matcher(thresholds=thresholds, labels=labels)(iou)
    assert torch.equal(iou, before) and thresholds == [0.4, 0.5] and labels == [0, -1, 1]


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_matcher_refuses_a_floor_that_is_no_iou(floor):
    with pytest.raises(ValueError, match=r"LOW_QUALITY_MIN_IOU must be in \[0, 1\], got"):
        safe_matcher(low_quality_min_iou=floor)
