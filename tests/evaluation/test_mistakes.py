"""The confusion matrix and the images with most mistakes, counted by hand."""

import numpy as np
import pytest
from hand_made_boxes import from_coco, make_found, make_truth
from random_coco import random_set

from retina_plugin.evaluation.coco_scores import score
from retina_plugin.evaluation.mistakes import confusion_matrix, mistakes_per_image, unmatched_detections

ONE, TWO, THREE, FAR = [0, 0, 10, 10], [20, 0, 10, 10], [40, 0, 10, 10], [80, 80, 10, 10]


def test_confusion_by_hand():
    truth = make_truth([(0, 0, ONE), (0, 0, TWO), (1, 1, ONE), (1, 1, THREE)], images=2)
    found = make_found(
        [(0, 0, ONE, 0.9), (0, 1, TWO, 0.8), (0, 1, FAR, 0.7), (1, 1, ONE, 0.6), (1, 0, THREE, 0.1), (1, 0, ONE, 0.5)]
    )
    # From 0.3 on: cat found, cat taken for dog, a dog on nothing, dog found, a second one on it, a dog missed.
    assert confusion_matrix(truth, found, 0.3).tolist() == [[1, 1, 0], [0, 1, 1], [1, 1, 0]]
    # All: the last is a dog taken for a cat.
    assert confusion_matrix(truth, found, 0.0).tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert confusion_matrix(truth, found, 1.0).tolist() == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]


def test_confusion_of_equal_overlaps_takes_the_own_class():
    truth = make_truth([(0, 1, ONE), (0, 0, ONE), (0, 1, ONE)])
    assert confusion_matrix(truth, make_found([(0, 0, ONE, 0.9)]), 0.0).tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_confusion_leaves_detections_in_a_crowd_out():
    truth = make_truth([(0, 0, [40, 40, 60, 60], True)])
    found = make_found([(0, 0, FAR, 0.9), (0, 1, FAR, 0.8)])
    assert confusion_matrix(truth, found, 0.0).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_confusion_of_nothing():
    assert confusion_matrix(make_truth([]), make_found([]), 0.5).tolist() == [[0] * 3] * 3


def test_detections_without_a_box_by_kind():
    truth = make_truth([(0, 0, ONE), (0, 1, TWO), (0, 0, [60, 60, 40, 40], True)])
    found = make_found(
        [
            (0, 1, ONE, 0.9),  # takes the cat's box
            (0, 0, ONE, 0.8),  # the right class, too late
            (0, 0, [0, 2, 10, 10], 0.7),  # IoU 8 / 12 with the same box
            (0, 1, [24, 0, 10, 10], 0.6),  # IoU 6 / 14 with the dog
            (0, 1, [29, 0, 10, 10], 0.5),  # IoU 1 / 19
            (0, 1, FAR, 0.4),
            (0, 0, FAR, 0.3),  # in a crowd of its class
            (0, 0, [40, 40, 9, 9], 0.1),  # below the threshold
        ]
    )
    assert unmatched_detections(truth, found, 0.2).tolist() == [[2, 0], [0, 1], [0, 2]]
    assert confusion_matrix(truth, found, 0.2).tolist()[-1] == [2, 3, 0]
    assert unmatched_detections(make_truth([]), make_found([(0, 1, FAR, 0.4)]), 0.2).tolist() == [
        [0, 0],
        [0, 0],
        [0, 1],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_kinds_sum_to_the_background_row(seed):
    truth, found = from_coco(*random_set(seed))
    kinds = unmatched_detections(truth, found, 0.35)
    assert (kinds.sum(axis=1) > 0).all()
    np.testing.assert_array_equal(kinds.sum(axis=0), confusion_matrix(truth, found, 0.35)[-1, :-1])


@pytest.mark.parametrize("seed", range(3))
def test_confusion_is_that_of_hotcoco(seed):
    hotcoco = pytest.importorskip("hotcoco")
    content, detections = random_set(seed)
    content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
    ground_truth = hotcoco.COCO(content)
    theirs = hotcoco.COCOeval(ground_truth, ground_truth.loadRes(detections), "bbox").confusion_matrix(min_score=0.35)
    ours = confusion_matrix(*from_coco(content, detections), 0.35)
    assert ours.diagonal()[:-1].sum() > 0
    np.testing.assert_array_equal(ours, theirs["matrix"])


def test_worst_images_first():
    # Image 0: one missed. 1: one missed, one wrong. 2: two wrong with higher scores. 3: nothing wrong.
    truth = make_truth([(0, 0, ONE), (1, 0, ONE), (2, 0, ONE), (3, 0, ONE)], images=4)
    found = make_found(
        [(0, 0, ONE, 0.2), (1, 0, FAR, 0.6), (2, 0, ONE, 0.9), (2, 0, FAR, 0.8), (2, 1, ONE, 0.7), (3, 0, ONE, 0.9)]
    )
    result = mistakes_per_image(truth, found, score(truth, found, limit=100), 0.5)
    assert (result.missed.tolist(), result.wrong.tolist()) == ([1, 1, 0, 0], [0, 1, 2, 0])
    assert result.wrong_scores.tolist() == pytest.approx([0, 0.6, 1.5, 0])
    assert result.worst(10) == [2, 1, 0] and result.worst(1) == [2]
    # Of the score 0.6 on counts 0.6.
    assert mistakes_per_image(truth, found, score(truth, found, limit=100), 0.6).wrong.tolist() == [0, 1, 2, 0]
    # The threshold lets the detection of image 0 in.
    assert mistakes_per_image(truth, found, score(truth, found, limit=100), 0.1).missed.tolist() == [0, 1, 0, 0]
