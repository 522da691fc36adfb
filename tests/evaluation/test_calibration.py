"""Thresholds and calibration, worked out by hand."""

import numpy as np
import pytest
from hand_made_boxes import make_found, make_truth

from retina_plugin.evaluation.calibration import best_points, calibration
from retina_plugin.evaluation.coco_scores import score

ONE, TWO, THREE, FAR = [0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10], [80, 80, 10, 10]


def scored(truth, found):
    return truth, found, score(truth, found, limit=100)


def test_best_threshold_by_f1():
    # cat, 3 boxes. By falling score: right, right, wrong, right.
    # F1 = 2 TP / (detections + boxes): 2/4, 4/5, 4/6, 6/7: the last is best, precision 3/4, recall 3/3.
    # dog, 1 box: wrong 0.7, right 0.6: F1 0, 2/3.
    found = [(0, 0, ONE, 0.9), (0, 0, TWO, 0.8), (0, 0, FAR, 0.5), (0, 0, THREE, 0.4),
             (0, 1, FAR, 0.7), (0, 1, ONE, 0.6)]  # fmt: skip
    truth = [(0, 0, ONE), (0, 0, TWO), (0, 0, THREE), (0, 1, ONE)]
    overall, (cat, dog) = best_points(*scored(make_truth(truth), make_found(found)))
    assert (cat.threshold, cat.precision, cat.recall) == (0.4, 0.75, 1.0) and cat.f1 == pytest.approx(6 / 7)
    assert (dog.threshold, dog.precision, dog.recall) == (0.6, 0.5, 1.0) and dog.f1 == pytest.approx(2 / 3)
    # Both: right right wrong right wrong right of 4 boxes: 2/5 4/6 4/7 6/8 6/9 8/10.
    assert (overall.threshold, overall.recall) == (0.4, 1.0) and overall.f1 == pytest.approx(0.8)


def test_of_equal_f1_the_highest_threshold():
    # right, wrong, right of 2 boxes: 2/3, 2/4, 4/5; without the last box's detection 2/3 stays.
    truth = make_truth([(0, 0, ONE), (0, 0, TWO)])
    overall, _ = best_points(*scored(truth, make_found([(0, 0, ONE, 0.9), (0, 0, FAR, 0.8), (0, 0, TWO, 0.7)])))
    assert (overall.threshold, overall.f1) == (0.7, pytest.approx(0.8))
    # 2/3 at once; 2/4, 2/5, 4/6 = 2/3 again at the end.
    found = [(0, 0, ONE, 0.9), (0, 0, FAR, 0.8), (0, 0, [60, 60, 9, 9], 0.75), (0, 0, TWO, 0.7)]
    overall, _ = best_points(*scored(truth, make_found(found)))
    assert (overall.threshold, overall.f1) == (0.9, pytest.approx(2 / 3))


def test_a_threshold_takes_all_of_its_score():
    # The right one comes first among equals, but 0.5 takes the wrong one too: precision 1/2.
    truth = make_truth([(0, 0, ONE)])
    overall, _ = best_points(*scored(truth, make_found([(0, 0, ONE, 0.5), (0, 0, FAR, 0.5)])))
    assert (overall.threshold, overall.precision) == (0.5, 0.5)


def test_no_point_without_a_right_detection_or_a_box():
    assert best_points(*scored(make_truth([(0, 0, ONE)]), make_found([(0, 0, FAR, 0.5)]))) == (None, [None, None])
    assert best_points(*scored(make_truth([(0, 0, ONE)]), make_found([]))) == (None, [None, None])
    assert best_points(*scored(make_truth([]), make_found([(0, 0, ONE, 0.5)]))) == (None, [None, None])


def test_calibration_by_hand():
    # Bin 0.8 to 0.9: 0.85 right and 0.81 wrong: mean 0.83, share 0.5. Bin 0.2 to 0.3: 0.25 wrong. 1.0 is in the last.
    found = make_found([(0, 0, ONE, 0.85), (0, 0, FAR, 0.81), (0, 0, [60, 60, 9, 9], 0.25), (0, 0, TWO, 1.0)])
    result = calibration(*scored(make_truth([(0, 0, ONE), (0, 0, TWO)]), found))
    filled = {round(b["low"], 1): b for b in result.bins if b["count"]}
    assert {low: (b["count"], b["right"]) for low, b in filled.items()} == {0.2: (1, 0.0), 0.8: (2, 0.5), 0.9: (1, 1.0)}
    assert filled[0.8]["score"] == pytest.approx(0.83)
    assert [b["score"] for b in result.bins if not b["count"]] == [None] * 7
    # (2 * |0.83 - 0.5| + 1 * |0.25 - 0| + 1 * |1 - 1|) / 4
    assert result.ece == pytest.approx((2 * 0.33 + 0.25) / 4)
    assert (result.count, result.d_ece, result.d_ece_count) == (4, None, 0)


def test_detection_error_needs_eight_in_a_bin():
    # Eight detections on a box (one right, seven duplicates) fill one bin of score and box; one elsewhere does not.
    rows = [(0, 0, ONE, 0.7)] * 8
    result = calibration(*scored(make_truth([(0, 0, ONE)]), make_found([*rows, (0, 0, FAR, 0.3)])))
    assert result.d_ece_count == 8 and result.d_ece == pytest.approx(0.7 - 1 / 8)
    result = calibration(*scored(make_truth([(0, 0, ONE)]), make_found(rows[:7])))
    assert (result.d_ece, result.d_ece_count) == (None, 0)


def test_detections_in_a_crowd_do_not_count():
    truth = make_truth([(0, 0, ONE), (0, 0, [40, 40, 50, 50], True)])
    found = make_found([(0, 0, ONE, 0.9), (0, 0, FAR, 0.8)])
    result = calibration(*scored(truth, found))
    assert result.count == 1 and result.ece == pytest.approx(0.1)
    overall, _ = best_points(*scored(truth, found))
    assert (overall.precision, overall.recall) == (1.0, 1.0)


@pytest.mark.parametrize("rows, note", [([], "no detections"), ([(0, 0, ONE, 3.0)], "outside [0, 1]")])
def test_no_calibration_says_why(rows, note):
    result = calibration(*scored(make_truth([(0, 0, ONE)]), make_found(rows)))
    assert note in result.note and result.ece is None


def test_a_score_on_an_edge_is_in_the_bin_above():
    found = make_found([(0, 0, ONE, k / 10) for k in range(11)])
    bins = calibration(*scored(make_truth([(0, 0, ONE)]), found)).bins
    assert [b["count"] for b in bins] == [1] * 9 + [2]  # 1 is in the last


def test_right_detections_are_those_that_coco_matched():
    # Both cover the box; COCO gives it to the better score.
    truth = make_truth([(0, 0, TWO), (0, 0, ONE)], ids=[30, 7])
    scores = score(truth, make_found([(0, 0, ONE, 0.6), (0, 0, [0, 1, 10, 10], 0.9)]), limit=100)
    assert scores.right[0].tolist() == [True, False]
    assert np.flatnonzero(scores.right[:, 0]).tolist() == list(range(7))  # IoU 9 / 11 = 0.818: up to 0.80
