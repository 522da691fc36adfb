"""The study with power (docs/study_protocol.md): its records in one file a study, and its tests from these alone.

``python tools/study_power.py collect`` writes ``results/study_power/STUDY/runs.jsonl``, a line a run, from the folder
of the runs. ``python tools/study_power.py table`` prints means, paired tests and the order against the paper's.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from retina_plugin.apps.study.statistics import holm
from retina_plugin.errors import SetupError

RESULTS = Path("results/study_power")
METRICS = ("AP", "AP50", "AP75", "APs", "APm")
ENDED = ("finished", "diverged", "failed")
POWER = 0.8  # convention: the smallest difference is one that four of five such studies would see
SIGNIFICANCE = 0.05
DRAWS = 2000  # of the bootstrap over seeds: the interval's ends move by less than 0.02 from one seed of it to another
KEPT = ("command", "git", "versions", "hardware", "config_file", "started", "iterations", "wall_seconds", "reason",
        "inference_ms_per_image", "peak_memory_mb")  # fmt: skip


def collect(runs: Path, results: Path) -> list[str]:
    """Write the runs of the folder ``runs``, a file a study; lines that say how many.

    A run that still goes on is there as far as it was evaluated: with a constant rate its scores are those of one that
    ends there.
    """
    plan = json.loads((runs / "study.json").read_text(encoding="utf-8"))
    said = []
    for study, entry in plan["studies"].items():
        lines = []
        for row in entry["rows"]:
            for seed, path in sorted(row["runs"].items(), key=lambda item: int(item[0])):
                record_path = runs / path / "run_record.json"
                record = json.loads(record_path.read_text(encoding="utf-8")) if record_path.is_file() else {}
                curves = _curves(runs / path / "metrics.json", record.get("iterations"))
                if record.get("status") in ENDED or record and curves["AP_curve"]:
                    lines.append({**_line(study, row, int(seed), path, record), **curves})
        if lines:
            (results / study).mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (results / study / "runs.jsonl").write_text(text, encoding="utf-8")
        ended = sum(line["status"] in ENDED for line in lines)
        said.append(f"{study}: {ended} of {sum(len(row['runs']) for row in entry['rows'])} planned runs ended")
    return said


def _line(study: str, row: dict, seed: int, path: str, record: dict) -> dict:
    scores = (record.get("results") or {}).get("bbox") or {}
    sets = record["data"]["sets"]
    return {
        "study": study,
        "row": row["name"],
        "label": row["label"],
        "paper_AP": (row["paper"] or {}).get("AP"),
        "seed": seed,
        "run": path,
        "status": record["status"],
        **{key: record.get(key) for key in KEPT},
        "n": {name: {key: facts[key] for key in ("images", "boxes")} for name, facts in sets.items()},
        "bbox": {key: scores.get(key) for key in METRICS},
    }


def _curves(path: Path, last: int | None) -> dict[str, list]:
    """``AP_curve``: iterations, AP, AP50, AP75; ``loss_curve``: iterations, loss_cls, loss_box_reg, every 20.

    Args:
        path: ``metrics.json``, whose lines count from 0 but for the one after the ``last`` iteration.
        last: None while the run goes on.
    """
    scores, losses = {}, {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        entry = json.loads(line)
        done = min(entry["iteration"] + 1, last or math.inf)
        if "bbox/AP" in entry:
            found = [round(entry.get(f"bbox/{key}") or 0.0, 3) for key in ("AP", "AP50", "AP75")]
            scores[done] = [0.0 if math.isnan(value) else value for value in found]
        if "loss_cls" in entry:
            losses[done] = [round(entry["loss_cls"], 5), round(entry.get("loss_box_reg", 0.0), 5)]
    return {
        "AP_curve": [[at, *values] for at, values in sorted(scores.items())],
        "loss_curve": [[at, *values] for at, values in sorted(losses.items())],
    }


def read_runs(results: Path) -> dict[str, list[dict]]:
    """Study -> its lines.

    Raises:
        SetupError: no study has a record.
    """
    files = sorted(results.glob("*/runs.jsonl"))
    if not files:
        raise SetupError(f"{results} has no STUDY/runs.jsonl: collect the runs first.")
    return {f.parent.name: [json.loads(line) for line in f.read_text(encoding="utf-8").splitlines()] for f in files}


def scores_by_row(lines: list[dict], at: int | None = None) -> dict[str, dict[int, float]]:
    """Row -> seed -> AP of the runs that ended, or after ``at`` iterations.

    A run that diverged has 0 from then on, one that failed has none.
    """
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        curve = {iteration: ap for iteration, ap, *_ in line["AP_curve"]}
        value = (line["bbox"]["AP"] or 0.0) if line["status"] in ("finished", "diverged") else None
        if at is not None:
            value = curve.get(at, 0.0 if line["status"] == "diverged" else None)
        if value is not None:
            found.setdefault(line["row"], {})[line["seed"]] = value
    return found


def paired(first: dict[int, float], second: dict[int, float]) -> dict:
    """``first - second`` over the seeds that both have: n, mean, std, p, interval of 95 %, smallest difference seen."""
    seeds = sorted(first.keys() & second.keys())
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    if n < 2 or not differences.std():
        return {"n": n, "mean": mean, "std": math.nan, "p": None, "half": math.nan, "smallest": math.nan}
    std = float(differences.std(ddof=1))
    half = float(stats.t.ppf(1 - SIGNIFICANCE / 2, n - 1)) * std / math.sqrt(n)
    p = float(stats.ttest_1samp(differences, 0).pvalue)
    return {"n": n, "mean": mean, "std": std, "p": p, "half": half, "smallest": smallest_difference(std, n)}


def smallest_difference(std: float, n: int) -> float:
    """The true difference that a paired two-sided t-test at 5 % sees with POWER, of ``n`` >= 2 differences."""
    critical = stats.t.ppf(1 - SIGNIFICANCE / 2, n - 1)
    low, high = 0.0, 100.0  # in standard errors
    for _ in range(60):
        middle = (low + high) / 2
        seen = stats.nct.sf(critical, n - 1, middle) + stats.nct.cdf(-critical, n - 1, middle)
        low, high = (middle, high) if seen < POWER else (low, middle)
    return high * std / math.sqrt(n)


def kendall(scores: dict[str, dict[int, float]], papers: dict[str, float]) -> tuple[float, float, float, int] | None:
    """Kendall's tau-b with the paper, the ends of its 95 % interval by a bootstrap over seeds, and the rows."""
    rows = [row for row in scores if papers.get(row) is not None]
    seeds = sorted(set.intersection(*(set(scores[row]) for row in rows))) if rows else []
    if len(rows) < 3 or not seeds:
        return None
    table = np.array([[scores[row][seed] for seed in seeds] for row in rows])
    theirs = [papers[row] for row in rows]

    def tau(columns: np.ndarray) -> float:
        return float(stats.kendalltau(table[:, columns].mean(axis=1), theirs, variant="b").statistic)

    rng = np.random.default_rng(0)
    draws = [tau(rng.integers(len(seeds), size=len(seeds))) for _ in range(DRAWS)]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return tau(np.arange(len(seeds))), float(low), float(high), len(rows)


def table(results: Path, references: dict[str, str], at: int | None) -> str:
    """Markdown: each study's rows with n, AP, the paired difference from its reference, Holm's p, and tau."""
    parts = []
    for study, lines in read_runs(results).items():
        scores = scores_by_row(lines, at)
        papers = {line["row"]: line["paper_AP"] for line in lines}
        labels = {line["row"]: line["label"] for line in lines}
        reference = references.get(study) or next(iter(scores), "")
        facts = {row: paired(scores[row], scores.get(reference, {})) for row in scores}
        corrected = holm([None if row == reference else facts[row]["p"] for row in scores])
        parts += [f"## {study}: against {labels.get(reference, reference)}\n"]
        parts += ["| row | n | AP | paper AP | paired Δ AP | 95 % | p | p (Holm) | smallest Δ seen |"]
        parts += ["| :-- | --: | --: | --: | --: | --: | --: | --: | --: |"]
        for row, p_holm in zip(scores, corrected, strict=True):
            values, fact = list(scores[row].values()), facts[row]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            paper = "–" if papers[row] is None else f"{papers[row]:.1f}"
            cells = ["reference", "–", "–", "–", "–"]
            if row != reference:
                cells = [_number(fact["mean"], "{:+.2f}") + f" (n = {fact['n']})", _number(fact["half"], "± {:.2f}")]
                cells += [_number(fact["p"], "{:.4f}"), _number(p_holm, "{:.4f}"), _number(fact["smallest"], "{:.2f}")]
            parts += [
                " | ".join([f"| {labels[row]}", str(len(values)), f"{np.mean(values):.2f}{spread}", paper, *cells])
                + " |"
            ]
        order = kendall(scores, papers)
        if order:
            parts += ["\nKendall's tau with the paper: {:.2f} [{:.2f}, {:.2f}], {} rows.".format(*order)]
        parts += [""]
    return "\n".join(parts)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or math.isnan(value) else form.format(value)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0, or 2 after a message."""
    parser = argparse.ArgumentParser(prog="python tools/study_power.py", description=__doc__.splitlines()[0])
    parser.add_argument("act", choices=("collect", "table"))
    parser.add_argument(
        "--runs", type=Path, default=Path("output/study_power"), help="folder of the runs (%(default)s)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records (%(default)s)")
    parser.add_argument("--at", type=int, help="AP after so many iterations, not at the end")
    args = parser.parse_args(argv)
    references = {"alpha": "alpha_0.5", "gamma": "gamma_0", "anchors": "anchors_3x3", "ohem": "ohem_fl",
                  "focal_star": "focal_star_fl", "prior": "prior_with_fl", "pilot": "gamma_2"}  # fmt: skip
    try:
        print(
            "\n".join(collect(args.runs, args.results))
            if args.act == "collect"
            else table(args.results, references, args.at)
        )
    except SetupError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
