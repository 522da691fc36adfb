"""Differences, tests, ordering and the sentences that follow from them, from records with chosen figures."""

import pytest
from study_records import StudyMaker, make_record, stopped_record

from retina_plugin.apps.study.results import read_study_folder
from retina_plugin.apps.study.statistics import welch_test
from retina_plugin.apps.study.summary import summarize
from retina_plugin.apps.study.verdict import conclusions, pairs_sentence, run_warnings, verdict

NAN = "loss_cls is nan"


@pytest.fixture
def maker(tmp_path) -> StudyMaker:
    """A study "alpha" whose reference row is b."""
    maker = StudyMaker(tmp_path)
    maker.add_study("alpha", reference="b")
    return maker


def read(maker: StudyMaker):
    folder = read_study_folder(maker.write())
    return folder, summarize(folder.studies[0])


def test_rows_have_mean_spread_difference_and_test(maker):
    maker.add_row("alpha", "a", [20.0, 22.0, 24.0], 30.0)
    maker.add_row("alpha", "b", [30.0, 31.0, 32.0], 34.0)
    maker.add_row("alpha", "c", [30.0, 33.0, 33.0], None)
    _, summary = read(maker)
    a, b, c = summary.rows
    assert a.mean_std("AP") == (22.0, 2.0)
    assert (a.difference, a.paper_difference, a.beyond_noise) == (-9.0, -4.0, True)
    assert (b.is_reference, b.difference, b.p_value) == (True, None, None)
    assert (c.difference, c.paper_difference, c.beyond_noise) == (1.0, None, False)
    assert a.p_value == welch_test([20.0, 22.0, 24.0], [30.0, 31.0, 32.0])
    assert a.p_holm == pytest.approx(2 * a.p_value)  # the smaller of two
    assert a.paired == (-9.0, 1.0, 3)  # -10, -9, -8
    assert summary.pairs == (3, 3, 1)
    assert pairs_sentence(summary) == "1 of the 3 tested pairs of rows differ by no more than seed noise."


def test_mean_takes_finished_runs_alone_and_notes_the_rest(maker):
    maker.add_row("alpha", "a", [20.0, stopped_record("diverged", NAN, 1), None])
    maker.add_row("alpha", "b", ["missing", 31.0, 31.0])
    a, b = read(maker)[1].rows
    assert (a.n, a.ap, a.status) == (2, 10.0, "finished")
    assert a.notes == ["diverged with seed 1", "no detections with seed 2"]
    assert b.notes == ["not finished with seed 0"]
    assert a.paired is None


def test_diverged_row_has_no_ap_and_no_place_in_the_order(maker):
    maker.add_row("alpha", "a", [stopped_record("diverged", NAN)], 40.0)
    for name, ap in (("b", 30.0), ("c", 31.0), ("d", 29.0)):
        maker.add_row("alpha", name, [ap], ap)
    _, summary = read(maker)
    assert (summary.rows[0].ap, summary.rows[0].difference, summary.rows[0].status) == (None, None, "diverged")
    assert (summary.ordering.n, summary.ordering.tau) == (3, pytest.approx(1.0))
    text = verdict(summary)
    assert text.startswith("The paper's best row, a, has no AP here (diverged); best is c.")
    assert text.endswith("Of 4 rows: 1 diverged.")


@pytest.mark.parametrize(
    ("aps", "papers", "expected"),
    [
        (([20.0, 21.0], [40.0, 41.0]), (10.0, 20.0), "The paper's best row, b, is also best here (20.0 AP ahead of a, "
         "beyond seed noise, p = 0.001)."),
        (([20.0, 22.0], [20.0, 21.0]), (10.0, 20.0), "The paper's best row is b; here it is a, 0.5 AP above it, within "
         "seed noise, p = 0.7"),
        (([20.0], [25.0]), (10.0, 20.0), "The paper's best row, b, is also best here (5.0 AP ahead of a, no test with "
         "n = 1)."),
        (([20.0], [25.0]), (None, None), "Best here: b (5.0 AP ahead of a, no test with n = 1); the paper has no "),
        (([None], [None]), (10.0, 20.0), "No row has found anything"),
    ],
    ids=["same", "other", "one-seed", "no-paper", "nothing-found"],
)  # fmt: skip
def test_verdict_says_whose_row_is_best(maker, aps, papers, expected):
    for name, values, paper in zip("ab", aps, papers, strict=True):
        maker.add_row("alpha", name, values, paper)
    text = verdict(read(maker)[1])
    assert text.startswith(expected)
    assert "Fewer than three rows have both figures" in text


def test_verdict_without_a_reference_figure_says_so(maker):
    maker.add_row("alpha", "a", [20.0], 10.0)
    maker.add_row("alpha", "b", ["missing"], 20.0)
    _, summary = read(maker)
    assert summary.rows[0].difference is None
    assert verdict(summary).startswith("Only a has an AP here: there is nothing to rank.")
    assert verdict(summary).endswith("Of 2 rows: 1 not finished. The reference row, b, has no AP: no differences.")
    assert pairs_sentence(summary).startswith("Fewer than two rows")


def test_study_without_a_finished_run_has_a_verdict(maker):
    maker.add_row("alpha", "b", ["missing"], 20.0)
    maker.add_study("other")
    maker.add_row("other", "z", [1.0])
    assert verdict(read(maker)[1]).startswith("No row has a finished run yet. Of 1 rows: 1 not finished.")


def test_conclusions_count_what_was_run(maker):
    maker.add_row("alpha", "b", [20.0])
    shows, hides = conclusions(read(maker)[0])
    # 800 / 118287 = 0.676 %; 600 iterations of 8 are 4800 of 1440000, 0.333 %
    assert "800 training images (0.68 % of the paper's 118,287), at most 4,800 image presentations (0.33 %" in shows
    assert "With a single seed nothing is tested" in shows
    assert "not comparable with the paper's" in hides


def test_warnings_name_what_differs_between_runs(maker):
    other = {"git": {"commit": "fedcba", "dirty": True}, "hardware": {"gpu": "A GPU", "num_gpus": 1}, "iterations": 300}
    maker.add_row("alpha", "b", [20.0, make_record(21.0, 1, **other), "missing"])
    assert run_warnings(read(maker)[0]) == [
        "The runs are of different commits: 0123456789abcdef, fedcba.",
        "The runs are of different devices: A GPU, A processor.",
        "The runs are of different lengths of training (iterations): 300, 600.",
        "1 of 2 finished runs were made with uncommitted changes in the code.",
        "1 of 3 runs: not finished. They are listed under their study.",
    ]


def test_equal_runs_give_no_warning(maker):
    maker.add_row("alpha", "b", [20.0, 21.0])
    assert run_warnings(read(maker)[0]) == []
