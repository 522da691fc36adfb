"""Pictures, tables and folders of the analyses."""

import json
import math
import os

import pytest
from PIL import Image

from retina_plugin.apps.report.files import make_output_folder
from retina_plugin.apps.report.plots import make_figure, save_figure, set_log_scale
from retina_plugin.errors import SetupError
from retina_plugin.files import write_csv, write_json


def draw(stem):
    figure, panels = make_figure(2)
    for panel in panels:
        panel.plot([0, 1], [0, 1])
    return save_figure(figure, stem)


def test_figure_is_png_and_svg_that_are_equal_each_time(tmp_path):
    png, svg = draw(tmp_path / "a")
    assert Image.open(png).size == (1382, 547)  # 2 x 4.8 by 3.8 inches of 144 dots
    assert svg.read_text().startswith("<?xml")
    again = draw(tmp_path / "b")
    assert [png.read_bytes(), svg.read_bytes()] == [path.read_bytes() for path in again]


def test_letters_are_9_points_at_least(tmp_path):
    figure, (panel,) = make_figure(1)
    figure.canvas.draw()
    assert min(label.get_size() for label in (*panel.get_xticklabels(), panel.xaxis.label, panel.title)) >= 9


def test_log_axis_has_plain_numbers():
    figure, panels = make_figure(2)
    for panel, values in zip(panels, ([1, 10_000], [1.5, 8]), strict=True):
        panel.plot(values, values)
        set_log_scale(panel, "y")
    figure.canvas.draw()
    wide, narrow = (
        {text for minor in (False, True) for label in panel.get_yticklabels(minor=minor) if (text := label.get_text())}
        for panel in panels
    )
    assert {"1", "10", "10000"} <= wide and not {"2", "5"} & wide
    assert {"2", "5"} <= narrow and not {"3", "4", "6"} & narrow


def test_name_with_dots_keeps_them(tmp_path):
    figure, _ = make_figure(1, panel_inches=(1, 1))
    assert [path.name for path in save_figure(figure, tmp_path / "gamma_0.5")] == ["gamma_0.5.png", "gamma_0.5.svg"]


def test_csv_keeps_what_float32_holds(tmp_path):
    write_csv(tmp_path / "t.csv", ("a", "b"), [(1 / 3, 7), ("x,y", 2.0)])
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a,b", "0.333333333,7", '"x,y",2']


def test_failing_table_leaves_the_old_one(tmp_path):
    write_csv(tmp_path / "t.csv", ("a",), [(1,)])

    def rows():
        yield (2,)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_csv(tmp_path / "t.csv", ("a",), rows())
    assert (tmp_path / "t.csv").read_text().splitlines() == ["a", "1"]
    assert os.listdir(tmp_path) == ["t.csv"]


def test_json_refuses_nan(tmp_path):
    write_json(tmp_path / "n.json", {"share": None})
    assert json.loads((tmp_path / "n.json").read_text()) == {"share": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "n.json", {"share": math.nan})


def test_output_folder_is_made_with_its_parents(tmp_path):
    assert make_output_folder(str(tmp_path / "a" / "b")).is_dir()


def test_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="--output .*file cannot be made .*: give a folder"):
        make_output_folder(str(tmp_path / "file"))
