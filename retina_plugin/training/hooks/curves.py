"""Draw the losses and AP of a training as ``curves.png``."""

import io
import json
import logging
import os
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase

from ...files import write_whole
from ...reading import read_bytes, refuse_link

__all__ = ["MAX_ITERATION", "CurveHook", "is_value", "read_curves"]

logger = logging.getLogger(__name__)

CURVES = "curves.png"
METRICS = "metrics.json"  # Detectron2's JSONWriter
# Guards: a training of 90,000 iterations writes 3 MB; a loss is a float32.
MAX_BYTES = 2**28
MAX_ITERATION = 2**53
MAX_VALUE = 3.4e38
# Of Okabe and Ito's palette, safe for the colour-blind: title of a panel -> name of a curve -> its colour.
PANELS = {
    "loss": {"total_loss": "#0072b2", "validation/total_loss": "#d55e00"},
    "AP": {"bbox/AP": "#0072b2", "bbox/AP50": "#009e73"},
}
LABELS = {"total_loss": "training", "validation/total_loss": "test set", "bbox/AP": "AP", "bbox/AP50": "AP50"}


class CurveHook(HookBase):
    """Draws ``curves.png`` after each evaluation and at the end, from ``metrics.json`` of all parts of a run.

    A hook of any ``DefaultTrainer``, in the main process, after the writers. Without matplotlib there is no picture; a
    failure is a warning and not the end of a training.
    """

    def __init__(self, folder: Path):
        """
        Args:
            folder: of ``metrics.json`` and of the picture (OUTPUT_DIR).
        """
        self._folder = folder
        self._drawn = -1  # iteration of the newest evaluation in the picture

    def after_step(self) -> None:
        _, evaluated = self.trainer.storage.latest().get("bbox/AP", (None, -1))
        if evaluated > self._drawn:
            self._drawn = evaluated
            self._draw()

    def after_train(self) -> None:
        self._draw()

    def _draw(self) -> None:
        try:
            curves = read_curves(self._folder / METRICS)
            if max(map(len, curves.values()), default=0) > 1:  # one point is no curve
                draw_curves(curves, self._folder / CURVES)
        except ImportError:  # matplotlib is not installed
            return
        except Exception as error:  # a picture is not worth a training
            logger.warning("%s is not drawn: %r", CURVES, error)


def read_curves(path: Path) -> dict[str, dict[int, float]]:
    """Read the curves of a run: name -> iteration -> value, the later one of an iteration done twice.

    A curve without a finite value is absent, and a line that was cut off when the run was killed is skipped; {} without
    the file, which may come from a stranger.

    Raises:
        SetupError: it is a link or no regular file, or beyond MAX_BYTES.
    """
    curves: dict[str, dict[int, float]] = {name: {} for panel in PANELS.values() for name in panel}
    if not os.path.lexists(path):
        return {}
    refuse_link(path)
    for line in read_bytes(path, MAX_BYTES).splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):  # cut off when a run was killed
            continue
        iteration = entry.get("iteration") if isinstance(entry, dict) else None
        if type(iteration) is int and 0 <= iteration <= MAX_ITERATION:
            for name, points in curves.items():
                if is_value(entry.get(name)):
                    points[iteration] = float(entry[name])
    return {name: points for name, points in curves.items() if points}


def is_value(value: Any) -> bool:
    return type(value) in (int, float) and -MAX_VALUE <= value <= MAX_VALUE


def draw_curves(curves: dict[str, dict[int, float]], path: Path) -> None:
    """Draw one panel for the losses and one for AP, of those curves that there are."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = {title: names for title, names in PANELS.items() if names.keys() & curves.keys()}
    figure = Figure((5.4 * len(panels), 3.8), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in (name for name in names if name in curves):
            points = sorted(curves[name].items())
            style = {"marker": "o", "markersize": 4} if len(points) < 30 else {}
            axes.plot(*zip(*points, strict=True), color=names[name], label=LABELS[name], **style)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("iteration")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#d5d9de", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=144)
    write_whole(path, content.getvalue())
