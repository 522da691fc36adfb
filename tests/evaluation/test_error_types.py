"""TIDE's breakdown: each type by hand, and the figures of the authors' tool on random sets."""

import numpy as np
import pytest
from hand_made_boxes import distinct, from_coco, make_found, make_truth
from random_coco import random_set

from retina_plugin.evaluation.coco_scores import score
from retina_plugin.evaluation.error_types import BACKGROUND, DUPLICATE, ERRORS, LOC, RIGHT, break_down

BOX, FAR = [0, 0, 10, 10], [50, 50, 10, 10]
HALF_OFF = [0, 5, 10, 10]  # IoU with BOX: 50 / 150 = 1/3


@pytest.mark.parametrize(
    "kind, box, class_id",
    [
        ("classification", [0, 0, 10, 10], 1),
        ("localisation", HALF_OFF, 0),
        ("both", HALF_OFF, 1),
        ("background", FAR, 0),
        ("background", [9, 9, 10, 10], 0),  # IoU 1 / 199, below 0.1
    ],
)
def test_a_single_false_detection_has_its_type(kind, box, class_id):
    result = break_down(make_truth([(0, 0, BOX)]), make_found([(0, class_id, box, 0.9)]))
    counts = dict.fromkeys(ERRORS, 0) | {kind: 1}
    # The first two would find the box if they were mended; with the others it is missed as well.
    counts["missed"] = int(kind not in ("classification", "localisation"))
    assert result.counts == counts
    assert result.ap50 == 0
    mended = kind in ("classification", "localisation")
    assert result.lost[kind] == pytest.approx(100 if mended else 0)


def test_second_detection_of_a_box_is_a_duplicate():
    found = make_found([(0, 0, BOX, 0.5), (0, 0, BOX, 0.9)])
    result = break_down(make_truth([(0, 0, BOX)]), found)
    assert result.kinds.tolist() == [RIGHT, DUPLICATE]  # best score first
    assert (result.counts["duplicate"], result.counts["missed"]) == (1, 0)
    assert result.ap50 == pytest.approx(100)  # precision at recall 1 is reached before the duplicate


def test_cost_of_a_background_detection_and_of_a_miss():
    # Two boxes; 0.9 is background, 0.8 finds the first. Precision 1/2 up to recall 0.5, which is 51 of 101 recalls.
    truth = make_truth([(0, 0, BOX), (0, 0, [20, 0, 10, 10])])
    result = break_down(truth, make_found([(0, 0, FAR, 0.9), (0, 0, BOX, 0.8)]))
    assert result.ap50 == pytest.approx(100 * 51 * 0.5 / 101)
    # Without the background detection precision is 1 up to recall 0.5.
    assert result.lost["background"] == pytest.approx(100 * 51 * 0.5 / 101)
    # Without the missed box recall reaches 1 at precision 1/2.
    assert result.lost["missed"] == pytest.approx(100 * (0.5 - 51 * 0.5 / 101))
    assert result.false_positives == pytest.approx(result.lost["background"])
    assert result.false_negatives == pytest.approx(result.lost["missed"])


def test_two_errors_on_one_box_mend_it_once():
    # Both are badly placed on the box; mended, the better one finds it and the other goes: AP 100, not 200 or 50.
    found = make_found([(0, 0, HALF_OFF, 0.9), (0, 0, [5, 0, 10, 10], 0.8)])
    result = break_down(make_truth([(0, 0, BOX)]), found)
    assert result.counts["localisation"] == 2
    assert result.lost["localisation"] == pytest.approx(100)


def test_detections_in_a_crowd_are_excused():
    truth = make_truth([(0, 0, BOX), (0, 0, [40, 40, 40, 40], True)])
    inside = (0, 0, [50, 50, 10, 10], 0.95)
    result = break_down(truth, make_found([inside, (0, 0, BOX, 0.9), (0, 1, [50, 50, 10, 10], 0.8)]))
    # The crowd is of class 0. As in the authors' tool, the excused one has a type all the same.
    assert result.kinds.tolist() == [BACKGROUND, RIGHT, BACKGROUND] and result.excused.tolist() == [True, False, False]
    assert result.counts["background"] == 2
    assert result.ap50 == pytest.approx(100)


def test_a_mended_detection_in_a_crowd_finds_its_box():
    # Badly placed on the box, and in a crowd: no false one, but moved onto the box it is right.
    truth = make_truth([(0, 0, BOX), (0, 0, [0, 0, 40, 40], True)])
    result = break_down(truth, make_found([(0, 0, HALF_OFF, 0.9)]))
    assert result.kinds.tolist() == [LOC] and result.excused.all()
    assert (result.ap50, result.counts["missed"]) == (0, 0)
    assert result.lost["localisation"] == pytest.approx(100)


def test_nothing_to_find_and_nothing_found():
    empty = break_down(make_truth([]), make_found([(0, 0, BOX, 0.9)]))
    assert (empty.ap50, empty.lost["background"], empty.counts["background"]) == (None, None, 1)
    assert empty.false_positives is None and empty.false_negatives is None
    silent = break_down(make_truth([(0, 0, BOX)]), make_found([]))
    assert (silent.ap50, silent.counts["missed"], len(silent.kinds)) == (0, 1, 0)


# By tidecv 1.0.1 on distinct(random_set(seed)): AP50; points lost in the order of ERRORS, then all false positives and
# all misses; counts.
TIDECV = {
    0: (9.103619, [0.004018, 10.518132, 0.342101, 0.055490, 16.799257, 6.168852, 33.470639, 13.058317],
        [1, 23, 7, 27, 196, 11]),
    1: (3.480344, [0, 5.324513, 0, 0.212483, 8.004215, 2.566729, 18.054309, 4.547892], [0, 26, 3, 26, 198, 11]),
    2: (15.527310, [0, 6.686320, 2.523701, 0.968521, 12.878079, 7.075793, 41.403383, 14.223927],
        [0, 22, 14, 38, 164, 7]),
}  # fmt: skip


@pytest.mark.parametrize("seed", TIDECV)
def test_figures_of_the_authors_tool(seed):
    content, detections = random_set(seed)
    truth, found = from_coco(content, distinct(detections))
    assert truth.crowd.any()
    result = break_down(truth, found.best(100))
    ap50, lost, counts = TIDECV[seed]
    assert result.ap50 == pytest.approx(ap50, abs=1e-3)
    np.testing.assert_allclose(
        [*result.lost.values(), result.false_positives, result.false_negatives], lost, rtol=0, atol=1e-3
    )
    assert list(result.counts.values()) == counts


def test_ap50_is_that_of_coco():
    content, detections = random_set(3)
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    truth, found = from_coco(content, distinct(detections))
    expected = score(truth, found, limit=100).summary["AP50"]
    assert 1 < expected < 99
    assert break_down(truth, found).ap50 == pytest.approx(expected, abs=1e-9)
