"""What the plots of a report draw, read back from their axes."""

import re

import pytest
from study_records import StudyMaker, stopped_record

from retina_plugin.apps.study.curve_plots import curve_panels, draw_overview
from retina_plugin.apps.study.plots import study_panels, wrap
from retina_plugin.apps.study.results import read_study_folder
from retina_plugin.apps.study.summary import summarize


@pytest.fixture
def maker(tmp_path) -> StudyMaker:
    return StudyMaker(tmp_path)


def summary_of(maker: StudyMaker):
    return summarize(read_study_folder(maker.write()).studies[0])


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def add_gammas(maker: StudyMaker, plot: str) -> None:
    maker.add_study("gamma", plot=plot, reference="g2")
    maker.add_row("gamma", "g2", [30.0, 32.0], 34.0, x={"gamma": 2.0, "alpha": 0.25})
    maker.add_row("gamma", "g0", [20.0, 20.0], 31.1, x={"gamma": 0.0, "alpha": 0.75})
    maker.add_row("gamma", "g5", [stopped_record("diverged", "nan")], 32.2, x={"gamma": 5.0, "alpha": 0.25})


def test_line_is_sorted_by_its_axis_and_says_diverged(maker):
    add_gammas(maker, "line")
    ours, paper = study_panels(summary_of(maker))
    axes = ours.figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "2", "5"]
    assert axes.get_xlabel() == "gamma (steps not to scale)"
    assert axes.containers[0].lines[0].get_ydata().tolist() == [20.0, 31.0]
    assert texts(axes) == ["diverged"]
    assert list(paper.figure.axes[0].lines[0].get_ydata()) == [31.1, 34.0, 32.2]


def test_bars_keep_the_order_of_the_table_and_add_what_the_paper_reports(maker):
    add_gammas(maker, "bars")
    maker.plan["studies"]["gamma"]["reported"] = [{"label": "SSD513", "AP": 31.2}]
    ours, paper = study_panels(summary_of(maker))
    assert [bar.get_width() for bar in ours.figure.axes[0].patches] == [31.0, 20.0]
    assert texts(ours.figure.axes[0]) == ["diverged"]
    assert [bar.get_width() for bar in paper.figure.axes[0].patches] == [34.0, 31.1, 32.2, 31.2]


def test_heatmap_puts_gamma_down_and_alpha_across(maker):
    add_gammas(maker, "heatmap")
    axes = study_panels(summary_of(maker))[0].figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.25", "0.75"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "2", "5"]
    assert texts(axes) == ["", "20.0", "31.0", "", "diverged", ""]


def test_groups_are_methods_by_batch_size(maker):
    maker.add_study("ohem", plot="grouped")
    for batch in (256, 128):
        maker.add_row("ohem", f"o{batch}", [batch / 10], x={"batch_size": batch}, label=f"OHEM 1:3, {batch}, NMS 0.5")
    maker.add_row("ohem", "fl", [36.0], label="FL")
    (panel,) = study_panels(summary_of(maker))
    axes = panel.figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["128", "256", "FL"]
    assert [text.get_text() for text in panel.figure.legends[0].get_texts()] == ["OHEM 1:3, NMS 0.5", "FL"]
    places = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in axes.patches}
    assert places == {0.0: 12.8, 1.0: 25.6, 2.0: 36.0}


def test_speed_has_a_line_for_each_depth_and_the_reported_points(maker):
    maker.add_study("scale", plot="speed", reported=[{"label": "SSD513", "AP": 31.2, "time_ms": 125}])
    for depth, ap, ms in ((50, 30.5, 64), (50, 35.7, 153), (101, 37.8, 198)):
        maker.add_row("scale", f"{depth}_{ms}", ["missing"], {"AP": ap, "time_ms": ms}, x={"depth": depth})
    maker.add_row("scale", "without_time", [20.0], x={"depth": 50})
    ours, paper = study_panels(summary_of(maker))
    assert "no time was recorded" in texts(ours.figure.axes[0])
    axes = paper.figure.axes[0]
    assert [line.lines[0].get_xdata().tolist() for line in axes.containers] == [[64, 153], [198]]
    assert texts(axes) == ["SSD513"]


def test_study_that_asks_for_no_plot_has_none(maker):
    add_gammas(maker, "none")
    assert study_panels(summary_of(maker)) == []


def test_learning_curves_are_means_over_seeds(maker):
    maker.add_study("gamma")
    maker.add_row("gamma", "a", [30.0, 32.0])
    maker.add_row("gamma", "b", ["missing"])
    loss, ap = curve_panels(summary_of(maker))
    assert (loss.name, ap.name) == ("curve_total_loss", "curve_AP")
    (line,) = ap.figure.axes[0].lines
    assert line.get_xydata()[-1].tolist() == [599.0, pytest.approx(31.0 * 599 / 600)]


def test_overview_shows_differences_beside_the_papers(maker):
    add_gammas(maker, "line")
    maker.add_study("alone")
    maker.add_row("alone", "z", [1.0])
    summaries = [summarize(study) for study in read_study_folder(maker.write()).studies]
    (axes,) = draw_overview(summaries).figure.axes  # a study of one row has no difference to show
    ours = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    assert ours == [[0.0], [-11.0]]
    papers = [line.get_xdata()[0] for line in axes.lines if line.get_label() == "paper"]
    assert papers == pytest.approx([0.0, 31.1 - 34.0, 32.2 - 34.0])
    assert texts(axes) == ["diverged"]


def test_overview_without_a_difference_says_so():
    assert texts(draw_overview([]).figure.axes[0])[0].startswith("No study has a reference row")


def test_inline_svg_has_ids_of_its_own_and_the_pages_colours(maker):
    add_gammas(maker, "line")
    panel = study_panels(summary_of(maker))[0]
    text = panel.inline_svg("a-b")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 5 and all(name.startswith("a-b-") for name in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) <= set(ids)
    assert "currentColor" in text and "#1c2127" not in text and "<script" not in text


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("short", "short"),
        ("a label of thirty letters here", "a label of thirty\nletters here"),
        ("x" * 26, "x" * 24 + "\nxx"),
    ],
    ids=["short", "two-lines", "one-word"],
)
def test_wrap_keeps_labels_to_two_lines(label, expected):
    assert wrap(label) == expected
