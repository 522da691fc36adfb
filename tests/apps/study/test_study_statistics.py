"""Statistics of a study's report against hand calculations."""

import pytest
from scipy import stats

from retina_plugin.apps.study.statistics import compare_ordering, holm, mean_std, paired_difference, welch_test


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (None, None)),
        ([3.5], (3.5, None)),
        ([30.0, 32.0, 34.0], (32.0, 2.0)),  # squares 4 + 0 + 4, over n - 1 = 2
    ],
    ids=["none", "one", "three"],
)
def test_mean_std_is_the_sample_deviation(values, expected):
    assert mean_std(values) == expected


def test_welch_test_equals_the_hand_calculation():
    first, second = [30.0, 32.0, 34.0], [35.0, 36.0]
    # variances 4 and 0.5: squared error 4/3 + 0.5/2 = 19/12, t = (32 - 35.5) / sqrt(19/12) = -2.78149;
    # degrees (19/12)^2 / ((4/3)^2 / 2 + (1/4)^2 / 1) = 2.50694 / 0.951389 = 2.63504
    expected = 2 * stats.t.sf(3.5 / (19 / 12) ** 0.5, (361 / 144) / (16 / 18 + 1 / 16))
    assert welch_test(first, second) == pytest.approx(expected, rel=1e-12)
    assert welch_test(second, first) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [([], [1.0, 2.0]), ([1.0], [1.0, 2.0]), ([0.0, 0.0], [0.0, 0.0]), ([0.0, 0.0], [3.0, 3.0])],
    ids=["empty", "one-seed", "equal", "no-spread"],
)
def test_welch_test_without_spread_or_seeds_is_no_test(first, second):
    assert welch_test(first, second) is None


def test_welch_test_with_spread_on_one_side_is_a_test():
    # t = 10 / sqrt(1 / 3), degrees 2
    assert welch_test([0.0, 0.0, 0.0], [9.0, 10.0, 11.0]) == pytest.approx(2 * stats.t.sf(10 * 3**0.5, 2), rel=1e-12)


def test_paired_difference_takes_out_what_seeds_share():
    paired = paired_difference({0: 30.0, 1: 40.0}, {1: 39.0, 0: 29.0})
    assert paired == (1.0, 0.0, 2)


@pytest.mark.parametrize("second", [{}, {0: 1.0}, {0: 1.0, 2: 1.0}], ids=["none", "fewer", "others"])
def test_paired_difference_needs_the_same_seeds(second):
    assert paired_difference({0: 1.0, 1: 2.0}, second) is None
    assert paired_difference({}, {}) is None


def test_holm_steps_down_and_never_falls():
    # sorted .01 .02 .03 (m = 3): .03, .04, max(.04, .03); the comparison without a test is not counted
    assert holm([0.03, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_kendall_tau_counts_pairs():
    # of 6 pairs one is in the other order: (5 - 1) / 6
    tau, p_value, n = compare_ordering([1.0, 2.0, 4.0, 3.0], [10.0, 20.0, 30.0, 40.0])
    assert (tau, n) == (pytest.approx(4 / 6), 4)
    # of the 24 orders of four, 4 have at most one inversion: two-sided 8 / 24
    assert p_value == pytest.approx(8 / 24)


def test_kendall_tau_b_corrects_for_ties():
    # pairs (1,2), (1,3) agree, (2,3) is tied in one: 2 / sqrt(3 * 2)
    assert compare_ordering([1.0, 2.0, 3.0], [1.0, 2.0, 2.0]).tau == pytest.approx(2 / 6**0.5)


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [5.0, 5.0, 5.0]], ids=["none", "two", "tied"])
def test_kendall_without_an_order_is_none(values):
    assert compare_ordering(values, list(range(len(values)))) is None
