"""``losses``: plots losses and their gradients for any gamma, beta and alpha (paper Figures 1, 5 and 6)."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...errors import SetupError
from ...files import write_csv
from ...ops import FocalTerm
from ..report.files import make_output_folder
from ..report.plots import LINE_STYLES, PALETTE, make_figure, save_figure

__all__ = ["parse_numbers", "run"]

NUM_POINTS = 501  # steps of 0.02 over the default range; a plot of 5 inches has 750 pixels


@dataclass(frozen=True)
class LossCurve:
    """A loss with its name in the legend and its weight."""

    name: str
    term: FocalTerm
    weight: float

    def value(self, x_t: Tensor) -> Tensor:
        return self.weight * self.term.with_slope(-x_t)[0]

    def derivative(self, x_t: Tensor) -> Tensor:
        return -self.weight * self.term.with_slope(-x_t)[1]


# File -> the corresponding figure of the paper.
FIGURES = {"loss_over_p_t": "Figure 1", "loss_over_x_t": "Figure 5", "gradient_over_x_t": "Figure 6"}
TITLES = {
    "loss_over_p_t": "Loss by the probability of the truth",
    "loss_over_x_t": "Loss by the logit of the truth",
    "gradient_over_x_t": "Gradient by the logit of the truth",
}


def run(args: argparse.Namespace) -> None:
    """Draw the three plots and write them.

    Raises:
        SetupError: gamma, beta, alpha or range is out of bounds, or the folder cannot be used.
    """
    curves = choose_curves(args.gamma, args.star, alpha=args.alpha)
    low, high = args.range
    if not (-math.inf < low < high < math.inf):
        raise SetupError(f"--range must be two finite numbers, the lower first, got {low:g} {high:g}.")
    folder = make_output_folder(args.output)
    x_t = torch.linspace(low, high, NUM_POINTS, dtype=torch.float64)
    # Midpoints of equal steps of p_t, since the loss is infinite at 0 and the logit at 1.
    p_t = (torch.arange(NUM_POINTS, dtype=torch.float64) + 0.5) / NUM_POINTS
    losses = {curve.name: curve.value for curve in curves}
    gradients = {curve.name: curve.derivative for curve in curves}
    pictures = (
        ("loss_over_p_t", p_t, {name: value(torch.logit(p_t)) for name, value in losses.items()}, (0, 5)),
        ("loss_over_x_t", x_t, {name: value(x_t) for name, value in losses.items()}, None),
        ("gradient_over_x_t", x_t, {name: slope(x_t) for name, slope in gradients.items()}, None),
    )
    for stem, x, columns, y_range in pictures:
        _draw(folder / stem, x, columns, y_range)
        rows = torch.stack([x, *columns.values()], dim=1).tolist()
        write_csv(folder / f"{stem}.csv", [stem.split("_over_")[1], *columns], rows)
        print(f"{folder / stem}.png, .svg, .csv  ({FIGURES[stem]})")


def choose_curves(gammas: list[str], stars: list[str], *, alpha: float | None) -> list[LossCurve]:
    """Make the curves of ``--gamma`` and ``--star``, each multiplied by ``alpha`` unless it is None.

    Raises:
        SetupError: there is no curve, or a value is out of range.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise SetupError(f"--alpha must be in [0, 1], got {alpha:g}.")
    weight = 1.0 if alpha is None else alpha
    curves = [
        LossCurve("CE" if gamma == 0 else f"FL gamma={gamma:g}", FocalTerm(gamma=gamma), weight)
        for gamma in parse_numbers("--gamma", gammas)
    ]
    for word in stars:
        try:
            gamma, beta = map(float, word.split(","))
        except ValueError:
            gamma, beta = math.nan, math.nan
        if not (0 < gamma < math.inf and math.isfinite(beta)):
            raise SetupError(
                f"--star must be pairs GAMMA,BETA with a finite GAMMA > 0, got {word!r}: write for example 2,1."
            )
        term = FocalTerm(scale=gamma, shift=beta)
        curves.append(LossCurve(f"FL* gamma={gamma:g} beta={beta:g}", term, weight))
    return curves


def parse_numbers(option: str, words: list[str]) -> list[float]:
    """Parse numbers >= 0, separated by spaces or commas ("0 1" or "0,1"); repeats are dropped.

    Raises:
        SetupError: a word is not such a number.
    """
    numbers = []
    for word in ",".join(words).split(","):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise SetupError(
                f"{option} must be finite numbers >= 0, got {word!r}: write them as 0,0.5,1 or put another option "
                "between them and what follows."
            )
        numbers.append(number)
    return list(dict.fromkeys(numbers))


def _draw(stem: Path, x: Tensor, columns: dict[str, Tensor], y_range: tuple[float, float] | None) -> None:
    """Plot every column over ``x``, with a line at p_t = 0.5 (x_t = 0), where the prediction becomes correct."""
    figure, (panel,) = make_figure(1, panel_inches=(7.0, 4.6))
    quantity, variable = stem.name.split("_over_")
    for i, (name, y) in enumerate(columns.items()):
        style = LINE_STYLES[(i // len(PALETTE) + name.startswith("FL*")) % len(LINE_STYLES)]
        label = name.replace("gamma=", "γ = ").replace(" beta=", ", β = ")
        panel.plot(x, y, style, color=PALETTE[i % len(PALETTE)], linewidth=2, label=label)
    well_classified = 0.5 if variable == "p_t" else 0.0  # p_t > 0.5 is the same as x_t > 0
    panel.axvline(well_classified, color="0.5", linewidth=1, zorder=0)
    panel.set_xlim(float(x[0]), float(x[-1]))
    if y_range:
        panel.set_ylim(*y_range)
    meaning = {"p_t": "pₜ, probability of the truth", "x_t": "xₜ, logit of the truth"}[variable]
    panel.set_xlabel(f"{meaning} (well classified right of the grey line)")
    panel.set_title(f"{TITLES[stem.name]} (paper, {FIGURES[stem.name]})")
    panel.set_ylabel("loss" if quantity == "loss" else "d loss / d xₜ")
    panel.legend()
    save_figure(figure, stem)
