"""Writes the records of a folder as one Markdown page, with plots of the growth of costs."""

import json
from dataclasses import dataclass
from pathlib import Path

from matplotlib.ticker import NullFormatter

from retina_plugin.apps.report.plots import PALETTE, make_figure, save_figure, set_log_scale
from retina_plugin.errors import SetupError
from retina_plugin.files import write_whole

from .growth import growth_exponent

__all__ = ["write_report"]

PLOT_DPI = 110  # makes two panels of 4.8 inches as wide as the text of a page on a code host

INTRODUCTION = """# Performance

Made by `python -m benchmarks report` from the records in `{folder}`; no number is typed by hand.
The variants run in turn in one process (A B A B); times are medians of {rounds} rounds with quartiles in brackets.
"Times as fast as X" is X's time divided by the row's: above 1 the row is faster. Memory is the peak allocated for
tensors. The results of the variants are compared before any time is measured.

{machine}
"""


@dataclass(frozen=True)
class Sweep:
    """Measurements of a case over a size."""

    case: str
    axis: str
    measurements: list[dict]

    @property
    def sizes(self) -> list[float]:
        return [measured["parameters"][self.axis] for measured in self.measurements]

    def costs(self, variant: str, kind: str = "seconds") -> tuple[list[float], list[float]]:
        """Return the sizes at which a variant was measured, and its median times (or peaks) there."""
        sizes, costs = [], []
        for size, measured in zip(self.sizes, self.measurements, strict=True):
            found = measured[kind].get(variant)
            if found is not None:
                sizes.append(size)
                costs.append(found["median"] if kind == "seconds" else found)
        return sizes, costs


def write_report(folder: Path, output: Path) -> list[Path]:
    """Write ``performance.md`` and the plots beside it.

    Raises:
        SetupError: there is no record, or one cannot be read.
    """
    records = _read(folder)
    output.mkdir(parents=True, exist_ok=True)
    lines = [INTRODUCTION.format(folder=folder.as_posix(), rounds=_rounds(records), machine=_machine(records))]
    paths = []
    for record in records:
        command = record["command"].replace("retina_plugin.benchmark", "benchmarks")  # their name in older records
        lines += [f"## {record['case']}", "", f"```\n{command}\n```", "", _table(record["measurements"])]
        for sweep in _sweeps(record):
            stem = output / "images" / f"growth_{sweep.case}_{sweep.axis}"
            stem.parent.mkdir(exist_ok=True)
            paths.append(_draw(sweep, stem))
            lines += [f"![{sweep.case} by {sweep.axis}](images/{stem.name}.png)", "", _growth_lines(sweep), ""]
    discussion = folder / "discussion.md"
    if discussion.exists():
        lines.append(discussion.read_text(encoding="utf-8"))
    page = output / "performance.md"
    write_whole(page, "\n".join(lines).rstrip() + "\n")
    return [page, *paths]


def _read(folder: Path) -> list[dict]:
    records = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["measurements"], record["case"]  # raises KeyError if the record is not complete
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SetupError(f"{path} is no complete record of a benchmark ({error}): run its case again.") from error
        records.append(record)
    if not records:
        raise SetupError(f"{folder} has no records: run `python -m benchmarks all --output {folder}` first.")
    return records


def _rounds(records: list[dict]) -> str:
    return " or ".join(str(rounds) for rounds in sorted({record["rounds"] for record in records}))


def _machine(records: list[dict]) -> str:
    """Describe hardware and versions, once for all records that share them."""
    told = {}
    for record in records:
        hardware, versions = record["hardware"], record["versions"]
        threads = sorted({measured["parameters"]["threads"] for measured in record["measurements"]})
        text = (
            f"{hardware.get('gpu', hardware['cpu'])}, {' or '.join(map(str, threads))} thread(s), "
            f"torch {versions['torch']}, torchvision {versions['torchvision']}, detectron2 {versions['detectron2']}, "
            f"commit {(record['git'] or {}).get('commit', 'unknown')[:10]}"
        )
        told.setdefault(text, []).append(record["case"])
    return "\n".join(f"- {', '.join(cases)}: {text}" for text, cases in told.items())


def _table(measurements: list[dict]) -> str:
    ours, peer = list(measurements[0]["seconds"])[:2]
    lines = [f"| what | variant | ms | memory, MiB | times as fast as {peer} |", "| :-- | :-- | --: | --: | --: |"]
    for measured in measurements:
        slowdown = {ours: 1.0, **{name: ratio["median"] for name, ratio in measured["speedup"].items()}}  # against ours
        what = _parameters(measured)
        for variant, seconds in measured["seconds"].items():
            peak = measured["peak_bytes"].get(variant)
            speed = f"{slowdown[peer] / slowdown[variant]:.2f}" if {peer, variant} <= slowdown.keys() else ""
            spread = " [{:.1f}, {:.1f}]".format(*(1000 * seconds[key] for key in ("q1", "q3")))
            lines.append(
                f"| {what} | {variant} | {1000 * seconds['median']:.1f}{spread} "
                f"| {'' if peak is None else f'{peak / 2**20:.1f}'} "
                f"| {speed} |"
            )
            what = ""
        for name, limit in measured["limits"].items():
            lines.append(f"| | *limit: {name}* | {1000 * limit:.1f} | | |")
    worst = {}
    for measured in measurements:
        for name, difference in measured["equality"].items():
            worst[name] = max(worst.get(name, 0.0), difference)
    told = "; ".join(f"{name} {difference:.2g}" for name, difference in worst.items())
    return "\n".join([*lines, "", f"Largest differences: {told}.", ""])


def _parameters(measured: dict) -> str:
    hidden = ("sweep", "threads", "device")
    return ", ".join(f"{key} {value:,}" for key, value in measured["parameters"].items() if key not in hidden)


def _sweeps(record: dict) -> list[Sweep]:
    axes = dict.fromkeys(measured["parameters"].get("sweep") for measured in record["measurements"])
    sweeps = []
    for axis in filter(None, axes):
        members = [measured for measured in record["measurements"] if measured["parameters"].get("sweep") == axis]
        if len(members) > 1:
            sweeps.append(Sweep(record["case"], axis, sorted(members, key=lambda m: m["parameters"][axis])))
    return sweeps


def _growth_lines(sweep: Sweep) -> str:
    """One sentence a variant: the exponents of its time and memory."""
    lines = []
    for variant in sweep.measurements[0]["seconds"]:
        told = []
        for kind, name in (("seconds", "time"), ("peak_bytes", "memory")):
            sizes, costs = sweep.costs(variant, kind)
            if len(sizes) > 1 and min(costs) > 0:
                told.append(f"{name} grows as {sweep.axis}^{growth_exponent(sizes, costs):.2f}")
        if told:
            lines.append(f"- {variant}: {', '.join(told)}")
    return "\n".join(lines)


def _draw(sweep: Sweep, stem: Path) -> Path:
    """Time, and memory where it was measured, of every variant over the size, on log scales."""
    kinds = [("seconds", "seconds")]
    if any(measured["peak_bytes"] for measured in sweep.measurements):
        kinds.append(("peak_bytes", "bytes of tensors"))
    figure, panels = make_figure(len(kinds))
    for panel, (kind, label) in zip(panels, kinds, strict=True):
        for color, variant in zip(PALETTE, sweep.measurements[0]["seconds"], strict=False):
            panel.plot(*sweep.costs(variant, kind), "o-", color=color, label=variant)
        set_log_scale(panel, "x")
        set_log_scale(panel, "y")
        panel.set(xlabel=sweep.axis, ylabel=label, title=f"{sweep.case} by {sweep.axis}")
        panel.xaxis.set_minor_formatter(NullFormatter())  # its labels would lie over each other
        panel.legend()
    return save_figure(figure, stem, kinds=["png"], dpi=PLOT_DPI)[0]
