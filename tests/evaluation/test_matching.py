"""Greedy matching and overlaps, by hand."""

import numpy as np
from hand_made_boxes import make_found, make_truth

from retina_plugin.evaluation.matching import box_iou, by_image, match_greedily

ONE, TWO = [0, 0, 10, 10], [20, 0, 10, 10]


def test_best_score_takes_the_box_and_the_next_takes_another():
    iou = np.array([[0.9, 0.6], [0.8, 0.7], [0.95, 0.4]])
    assert match_greedily(iou, 0.5).tolist() == [0, 1, -1]
    assert iou[0].tolist() == [0.9, 0.6]  # the caller's array stays
    assert match_greedily(iou, 0.75).tolist() == [0, -1, -1]  # the second's best box is taken, the other below 0.75


def test_equal_overlaps_go_to_the_preferred_box_else_to_the_first():
    iou = np.array([[0.6, 0.6, 0.6]])
    assert match_greedily(iou, 0.6).tolist() == [0]
    assert match_greedily(iou, 0.6, prefer=np.array([[False, True, True]])).tolist() == [1]
    assert match_greedily(iou, 0.6, prefer=np.array([[False, False, False]])).tolist() == [0]


def test_nothing_matches_nothing():
    assert match_greedily(np.zeros((0, 3)), 0.5).tolist() == []
    assert match_greedily(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]


def test_overlap_with_a_crowd_is_the_share_inside_it():
    boxes, region = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 100, 100]])
    assert box_iou(boxes, region, crowd=True).tolist() == [[0.5]]
    assert box_iou(boxes, region)[0, 0] == 50 / (100 + 10000 - 50)
    assert box_iou(boxes, np.zeros((0, 4))).shape == (1, 0)


def test_images_come_with_their_detections_boxes_and_crowds():
    truth = make_truth([(0, 0, ONE), (2, 0, ONE), (2, 1, TWO, True)], images=3)
    found = make_found([(1, 0, ONE, 0.5), (2, 0, TWO, 0.9)])
    parts = [[part.tolist() for part in parts] for parts in by_image(truth, found)]
    assert parts == [[[], [0], []], [[0], [], []], [[1], [1], [2]]]
