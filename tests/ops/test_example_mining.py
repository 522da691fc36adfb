"""``select_hard_examples``: OHEM of paper Sec. 5.1, on cases worked out by hand and against the plain algorithm."""

import pytest
import torch
from torchvision.ops import box_iou

from retina_plugin.ops import mining as example_mining
from retina_plugin.ops import select_hard_examples

BACKGROUND = 2  # K = 2


def row_of_boxes(*starts, width=10.0):
    """Boxes of 10 x 10 that begin at these x: shifted by 2 their IoU is 8 / 12 = 0.67, by 5 it is 5 / 15 = 0.33."""
    return torch.tensor([[x, 0.0, x + width, 10.0] for x in starts])


def select(losses, labels, boxes, groups=None, **mining):
    mask = select_hard_examples(
        torch.tensor(losses),
        torch.tensor(labels, dtype=torch.long),
        boxes,
        num_classes=BACKGROUND,
        groups=None if groups is None else torch.tensor(groups),
        **{"batch_size": 100, "nms_thresh": 0.5, **mining},
    )
    assert mask.shape == (len(losses),) and mask.dtype == torch.bool
    return mask.nonzero().squeeze(1).tolist()


FAR = (0, 100, 200, 300, 400, 500)


def test_mining_takes_the_hardest():
    losses, labels = [0.3, 0.9, 0.1, 0.8, 0.5, 0.7], [2, 2, 0, 2, 1, 2]
    assert select(losses, labels, row_of_boxes(*FAR), batch_size=3) == [1, 3, 5]
    assert select(losses, labels, row_of_boxes(*FAR), batch_size=1) == [1]
    assert select(losses, labels, row_of_boxes(*FAR), batch_size=100) == [0, 1, 2, 3, 4, 5]


def test_mining_never_takes_an_ignored_anchor():
    assert select([9.0, 8.0, 1.0], [-1, -2, 2], row_of_boxes(0, 0, 0)) == [2]


def test_mining_nms_drops_the_easier_of_two_and_fills_the_place():
    # 0 and 1 have IoU 0.67; 1 is harder, so 0 goes although it is the second hardest, and 2 takes its place.
    losses, boxes = [0.8, 0.9, 0.1], row_of_boxes(0, 2, 100)
    assert select(losses, [2, 2, 2], boxes, batch_size=2, nms_thresh=0.5) == [1, 2]
    assert select(losses, [2, 2, 2], boxes, batch_size=2, nms_thresh=0.7) == [0, 1]


def test_mining_nms_is_greedy():
    # 0-1 and 1-2 have IoU 0.67, 0-2 has 6 / 14 = 0.43. With 1 gone, nothing suppresses 2.
    assert select([0.9, 0.8, 0.7], [2, 2, 2], row_of_boxes(0, 2, 4)) == [0, 2]


def test_mining_nms_at_the_threshold_keeps_both():
    # Shifted by 5 of 15: (15 - 5) / (15 + 5) = 0.5, which is not above 0.5.
    boxes = row_of_boxes(0, 5, width=15.0)
    assert select([0.9, 0.8], [2, 2], boxes, nms_thresh=0.5) == [0, 1]
    assert select([0.9, 0.8], [2, 2], boxes, nms_thresh=0.49) == [0]


def test_mining_nms_is_within_a_label():
    # The same box four times: background, class 0, class 1, class 1. The easier of the two of class 1 goes.
    assert select([0.9, 0.8, 0.6, 0.7], [2, 0, 1, 1], row_of_boxes(0, 0, 0, 0)) == [0, 1, 3]


def test_mining_nms_is_within_a_group():
    # The same background box in images 0, 1, 1; then every label in every image, no two of which are the same.
    assert select([0.9, 0.8, 0.7], [2, 2, 2], row_of_boxes(0, 0, 0), groups=[0, 1, 1]) == [0, 1]
    every_pair = [(label, image) for label in (0, 1, 2) for image in (0, 1, 2)]
    labels, groups = zip(*every_pair, strict=True)
    boxes = row_of_boxes(*[0] * 9)
    assert select([0.5] * 9, list(labels), boxes, groups=list(groups)) == list(range(9))


def test_mining_groups_share_the_batch():
    assert select([0.9, 0.8, 0.1, 0.7], [2] * 4, row_of_boxes(*FAR[:4]), groups=[0, 0, 1, 1], batch_size=3) == [0, 1, 3]


def test_mining_ties_go_to_the_first():
    assert select([0.5] * 5, [2] * 5, row_of_boxes(*FAR[:5]), batch_size=2) == [0, 1]
    assert select([0.5] * 3, [2] * 3, row_of_boxes(0, 2, 100)) == [0, 2]


def test_mining_ties_go_to_the_first_of_many():
    # 100 * 32 = 3200 boxes in the prefix, where torchvision goes class by class and sorts with an unstable sort.
    mask = select_hard_examples(
        torch.full((5000,), 0.5),
        torch.full((5000,), 2),
        row_of_boxes(*range(0, 100_000, 20)),
        num_classes=2,
        batch_size=100,
        nms_thresh=0.5,
    )
    assert mask.nonzero().squeeze(1).tolist() == list(range(100))


def test_mining_of_nothing():
    assert select([], [], torch.zeros(0, 4)) == []
    assert select([1.0, 1.0], [-1, -1], row_of_boxes(0, 100)) == []
    assert select([], [], torch.zeros(0, 4), neg_pos_ratio=3.0) == []
    assert select([1.0, 1.0], [-1, -1], row_of_boxes(0, 100), neg_pos_ratio=3.0, groups=[0, 1]) == []


# --- One positive to three negatives ---


def far_apart(num_pos, num_neg):
    """Losses, labels, boxes: positives first, each kind from the easiest to the hardest, all negatives harder."""
    losses = [0.01 * i for i in range(num_pos)] + [1 + 0.01 * i for i in range(num_neg)]
    labels = [i % 2 for i in range(num_pos)] + [BACKGROUND] * num_neg
    return losses, labels, row_of_boxes(*range(0, 100 * (num_pos + num_neg), 100))


@pytest.mark.parametrize(
    "num_pos, num_neg, batch_size, picked_pos, picked_neg",
    [
        (10, 50, 16, 4, 12),  # enough of both: 16 / (1 + 3) = 4 positives, 3 * 4 negatives
        (2, 50, 16, 2, 6),  # too few positives: 3 * 2 negatives, the batch stays small
        (0, 50, 16, 0, 3),  # none: negatives as for one positive
        (10, 5, 16, 4, 5),  # too few negatives
        (10, 0, 16, 4, 0),
        (10, 50, 19, 4, 12),  # 19 / 4 = 4.75: positives are rounded down
        (10, 50, 3, 1, 2),  # never less than one positive; the batch size holds
        (10, 50, 1, 1, 0),
        (0, 50, 2, 0, 2),
    ],
)
def test_mining_one_to_three(num_pos, num_neg, batch_size, picked_pos, picked_neg):
    picked = select(*far_apart(num_pos, num_neg), batch_size=batch_size, neg_pos_ratio=3.0)
    # The hardest of each kind are its last.
    positives = list(range(num_pos - picked_pos, num_pos))
    negatives = list(range(num_pos + num_neg - picked_neg, num_pos + num_neg))
    assert picked == positives + negatives


def test_mining_one_to_half():
    # ratio 0.5: 9 / 1.5 = 6 positives and 3 negatives. Five positives: round(2.5) = 2 negatives.
    assert len(select(*far_apart(10, 50), batch_size=9, neg_pos_ratio=0.5)) == 9
    assert len(select(*far_apart(5, 50), batch_size=9, neg_pos_ratio=0.5)) == 7


def test_mining_one_to_three_counts_positives_after_nms():
    # Two equal positives of one class are one example: 3 negatives, not 6.
    losses, labels = [0.9, 0.8] + [0.5] * 8, [0, 0] + [BACKGROUND] * 8
    boxes = row_of_boxes(0, 0, *range(100, 900, 100))
    assert select(losses, labels, boxes, batch_size=16, neg_pos_ratio=3.0) == [0, 2, 3, 4]


def test_mining_ratio_off_may_take_no_positive():
    assert select(*far_apart(10, 50), batch_size=16) == list(range(44, 60))


# --- The growing prefix ---


def plain_mining(losses, labels, boxes, groups, batch_size, nms_thresh):
    """Greedy NMS over everything, one example at a time."""
    iou = box_iou(boxes, boxes)
    kept = []
    for i in losses.argsort(descending=True, stable=True).tolist():
        same = [j for j in kept if labels[j] == labels[i] and groups[j] == groups[i]]
        if labels[i] >= 0 and not any(iou[i, j] > nms_thresh for j in same):
            kept.append(i)
    return sorted(kept[:batch_size])


@pytest.mark.parametrize("batch_size", [1, 5, 40, 1000])
@pytest.mark.parametrize("nms_thresh", [0.3, 0.7])
def test_mining_by_prefixes_equals_nms_over_everything(monkeypatch, batch_size, nms_thresh):
    monkeypatch.setattr(example_mining, "PREFIX_PER_EXAMPLE", 1)
    corners = torch.rand(300, 2) * 60  # crowded: most examples are suppressed, so that the prefix has to grow
    boxes = torch.cat([corners, corners + 20 + 20 * torch.rand(300, 2)], dim=1)
    losses, labels, groups = torch.rand(300), torch.randint(-1, 3, (300,)), torch.randint(2, (300,))
    expected = plain_mining(losses, labels.tolist(), boxes, groups.tolist(), batch_size, nms_thresh)
    picked = select_hard_examples(
        losses, labels, boxes, num_classes=2, batch_size=batch_size, nms_thresh=nms_thresh, groups=groups
    )
    assert len(expected) == batch_size if batch_size < 40 else 0 < len(expected) < 300
    assert picked.nonzero().squeeze(1).tolist() == expected


def test_mining_looks_at_a_prefix_only(monkeypatch):
    # 4000 examples far apart and a batch of 2: NMS sees 2 * 32 of them.
    seen = []
    batched_nms = example_mining.batched_nms
    monkeypatch.setattr(
        example_mining, "batched_nms", lambda boxes, *args: seen.append(len(boxes)) or batched_nms(boxes, *args)
    )
    select(*far_apart(0, 4000), batch_size=2)
    assert seen == [64]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_mining_float_types(dtype):
    losses, boxes = torch.tensor([0.25, 0.5, 0.75], dtype=dtype), row_of_boxes(0, 2, 100).to(dtype)
    mask = select_hard_examples(
        losses, torch.tensor([2, 2, 2], dtype=torch.int32), boxes, num_classes=2, batch_size=5, nms_thresh=0.5
    )
    assert mask.tolist() == [False, True, True]
