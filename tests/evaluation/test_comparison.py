"""The bootstrap is a bootstrap of COCO's AP, paired; and who wins where is counted right."""

import numpy as np
import pytest
from hand_made_boxes import distinct, from_coco, make_found, make_truth
from random_coco import random_set

from retina_plugin.apps.evaluate.compare_page import comparison_page, verdict
from retina_plugin.evaluation.bootstrap import draw_images, interval, resampled_ap
from retina_plugin.evaluation.coco_scores import score
from retina_plugin.evaluation.comparison import compare
from retina_plugin.evaluation.evaluate import FEWEST, evaluate_detections

ONE, TWO, FAR = [0, 0, 10, 10], [20, 0, 10, 10], [80, 80, 10, 10]


@pytest.mark.parametrize("seed", range(3))
def test_every_image_once_gives_cocos_ap(seed):
    content, detections = random_set(seed)
    truth, found = from_coco(content, distinct(detections))
    scores = score(truth, found, limit=100)
    ap, ap50 = resampled_ap(truth, found, scores, np.ones((2, len(truth.image_ids)), dtype=np.int64))
    assert np.nanmax(scores.class_ap) > 1
    np.testing.assert_allclose(ap, np.tile(scores.class_ap, (2, 1)), rtol=0, atol=1e-9)
    np.testing.assert_allclose(ap50, np.tile(scores.class_ap50, (2, 1)), rtol=0, atol=1e-9)


def test_a_draw_is_cocos_ap_of_the_drawn_images():
    content, detections = random_set(4)
    detections = distinct(detections)
    draws = draw_images(len(content["images"]), 3, seed=0)
    truth, found = from_coco(content, detections)
    ap, _ = resampled_ap(truth, found, score(truth, found, limit=100), draws)
    for draw, values in zip(draws, ap, strict=True):
        # Each image as often as it is drawn, under numbers of its own.
        old = np.repeat(np.arange(len(draw)), draw)
        drawn = {"images": [{"id": i} for i in range(len(old))], "categories": content["categories"]}
        drawn["annotations"] = [
            a | {"image_id": i} for i, o in enumerate(old) for a in content["annotations"] if a["image_id"] == o
        ]
        for number, annotation in enumerate(drawn["annotations"]):
            annotation["id"] = number + 1
        copies = [d | {"image_id": i} for i, o in enumerate(old) for d in detections if d["image_id"] == o]
        expected = score(*from_coco(drawn, copies), limit=100).class_ap
        assert np.nanmax(expected) > 1
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9)


def test_a_recall_that_is_reached_exactly_counts():
    # 100 boxes; 7 found, a false detection, an eighth found. In float64 0.07 * 100 is more than 7.
    truth = make_truth([(i, 0, ONE) for i in range(100)], images=100)
    found = make_found([*((i, 0, ONE, 0.9 - i / 100) for i in range(7)), (8, 0, FAR, 0.5), (9, 0, ONE, 0.4)])
    ap, _ = resampled_ap(truth, found, score(truth, found, limit=100), np.ones((1, 100), dtype=np.int64))
    assert ap[0, 0] == pytest.approx(100 * (8 * 1 + 8 / 9) / 101)


def test_draws_are_of_as_many_images_and_repeat_by_seed():
    draws = draw_images(7, 50, seed=3)
    assert draws.shape == (50, 7) and (draws.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(draws, draw_images(7, 50, seed=3))
    assert (draws != draw_images(7, 50, seed=4)).any()


def test_interval_is_of_the_known_values():
    assert interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert interval(np.array([np.nan, 1.0])) == (1.0, 1.0)
    assert interval(np.array([np.nan])) is None


def two_sides(images=FEWEST):
    truth = make_truth([(i, k, box) for i in range(images) for k, box in enumerate((ONE, TWO))], images=images)
    first = make_found([(i, 0, ONE, 0.9) for i in range(images)])
    second = make_found([(i, 0, ONE, 0.9) for i in range(images - 1)] + [(i, 1, TWO, 0.8) for i in range(images)])
    return evaluate_detections(truth, first, limit=100), evaluate_detections(truth, second, limit=100)


def test_differences_by_class():
    first, second = two_sides()
    comparison = compare(first, second, samples=200, seed=0)
    cat, dog = comparison.classes
    # B misses one of ten cats: recall 0.9, 91 of 101 recalls.
    assert (cat.first, cat.second) == (pytest.approx(100), pytest.approx(100 * 91 / 101))
    assert cat.interval[0] < cat.value < 0 and cat.interval[1] == 0 and not cat.beyond_chance  # it may not be drawn
    assert (dog.first, dog.value, dog.interval) == (0, pytest.approx(100), (pytest.approx(100), pytest.approx(100)))
    assert dog.beyond_chance and comparison.overall[0].beyond_chance
    assert comparison.overall[0].value == pytest.approx((100 * 91 / 101 - 100 + 100) / 2)


@pytest.mark.parametrize("images", [1, FEWEST - 1])
def test_few_images_are_no_ground_for_an_interval(images):
    comparison = compare(*two_sides(images), samples=20, seed=0)
    for difference in comparison.overall + comparison.classes:
        assert difference.value is not None and difference.interval is None and not difference.beyond_chance
    said = verdict(comparison.overall[0], images)
    page = comparison_page(comparison, title="", sources=("a", "b"), image_root=None, pictures=0)
    words = f"{'1 image is' if images == 1 else '9 images are'} too few to say how far AP would move with other images."
    assert said.endswith(f": a difference of {comparison.overall[0].value:+.1f}. {words}") and words in page
    assert not any(word in said + page for word in ("beyond chance", "within chance", "explains", "bootstrap"))


def test_who_wins_where():
    first, second = two_sides(6)
    comparison = compare(first, second, samples=2, seed=0)
    # A misses the dog everywhere, B the cat of the last image.
    assert comparison.fewer_mistakes.tolist() == [1, 1, 1, 1, 1, 0]
    assert comparison.wins(1, 3) == [0, 1, 2] and comparison.wins(0, 3) == []
    assert compare(second, first, samples=2, seed=0).wins(0, 9) == [0, 1, 2, 3, 4]


def test_a_detector_against_itself():
    content, detections = random_set(0)
    evaluation = evaluate_detections(*from_coco(content, detections), limit=100)
    comparison = compare(evaluation, evaluation, samples=50, seed=0)
    assert {d.value for d in comparison.overall} == {0.0}
    assert {d.interval for d in comparison.overall + comparison.classes} == {(0.0, 0.0)}
    assert not comparison.fewer_mistakes.any()


def test_nothing_to_compare():
    evaluation = evaluate_detections(make_truth([]), make_found([(0, 0, FAR, 0.5)]), limit=100)
    comparison = compare(evaluation, evaluation, samples=5, seed=0)
    assert [(d.value, d.interval) for d in comparison.overall] == [(None, None)] * 2
