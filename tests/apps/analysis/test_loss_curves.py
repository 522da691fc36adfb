"""Figures 1, 5 and 6: curves against the numbers of the paper."""

import csv

import pytest
import torch

from retina_cli.main import build_parser
from retina_plugin.apps.analysis import loss_curves
from retina_plugin.apps.analysis.loss_curves import choose_curves, parse_numbers
from retina_plugin.errors import SetupError


def arguments(tmp_path, *words):
    return build_parser("analyze").parse_args(["losses", *words, "--output", str(tmp_path / "out")])


def read_table(path) -> tuple[list[str], torch.Tensor]:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, torch.tensor([[float(cell) for cell in row] for row in rows], dtype=torch.float64)


def test_defaults_write_three_pictures_with_their_numbers(tmp_path):
    loss_curves.run(arguments(tmp_path))
    stems = ("loss_over_p_t", "loss_over_x_t", "gradient_over_x_t")
    expected = {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg", "csv")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    header, table = read_table(tmp_path / "out" / "loss_over_x_t.csv")
    names = ["CE", "FL gamma=0.5", "FL gamma=1", "FL gamma=2", "FL gamma=5", "FL* gamma=2 beta=1", "FL* gamma=4 beta=0"]
    assert header == ["x_t", *names]
    # Columns CE, FL(2), FL*(2, 1) and FL*(4, 0) of the golden values at x_t = 0.
    row = table[table[:, 0].abs().argmin()]
    assert row[[1, 4, 6, 7]].tolist() == pytest.approx([0.69314718, 0.1732868, 0.15663084, 0.1732868], rel=1e-6)


def test_gradient_is_the_slope_of_the_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_curves, "save_figure", lambda figure, stem: None)  # a second each
    loss_curves.run(arguments(tmp_path, "--range", "-3", "3"))
    _, loss = read_table(tmp_path / "out" / "loss_over_x_t.csv")
    _, gradient = read_table(tmp_path / "out" / "gradient_over_x_t.csv")
    x_t = loss[:, 0]
    slopes = (loss[2:, 1:] - loss[:-2, 1:]) / (x_t[2:] - x_t[:-2]).unsqueeze(1)
    # Central differences: h^2 / 6 times the third derivative, which is below 10 for FL*(4, 0).
    torch.testing.assert_close(gradient[1:-1, 1:], slopes, rtol=0, atol=5e-4)


def test_loss_over_p_t_is_100_times_below_ce_at_0_9():
    ce, fl = choose_curves(["0", "2"], [], alpha=None)
    x_t = torch.logit(torch.tensor([0.9], dtype=torch.float64))
    assert float(ce.value(x_t) / fl.value(x_t)) == pytest.approx(100)


def test_gradient_of_gamma_2_has_the_extreme_of_figure_6():
    (fl,) = choose_curves(["2"], [], alpha=None)
    assert float(fl.derivative(torch.tensor(-2.790))) == pytest.approx(-1.1290, abs=5e-5)


def test_alpha_weighs_value_and_derivative():
    (plain,), (weighted,) = (choose_curves(["2"], [], alpha=alpha) for alpha in (None, 0.25))
    x_t = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(weighted.value(x_t), 0.25 * plain.value(x_t))
    torch.testing.assert_close(weighted.derivative(x_t), 0.25 * plain.derivative(x_t))


def test_numbers_come_as_words_or_joined():
    assert parse_numbers("--gamma", ["0", "0.5,1", "1"]) == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gamma", "-1"], "--gamma must be finite numbers >= 0, got '-1'"),
        (["--gamma", "nan"], "got 'nan'"),
        (["--gamma", "0", "MODEL.DEVICE"], "got 'MODEL.DEVICE': write them as 0,0.5,1"),
        (["--star", "2"], "--star must be pairs GAMMA,BETA with a finite GAMMA > 0, got '2'"),
        (["--star", "0,1"], "got '0,1'"),
        (["--star", "2,inf"], "got '2,inf'"),
        (["--alpha", "1.5"], r"--alpha must be in \[0, 1\], got 1.5"),
        (["--range", "3", "3"], "--range must be two finite numbers, the lower first, got 3 3"),
        (["--range", "0", "inf"], "got 0 inf"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, words, message):
    with pytest.raises(SetupError, match=message):
        loss_curves.run(arguments(tmp_path, *words))
    assert not (tmp_path / "out").exists()
