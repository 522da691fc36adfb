"""From studies to runs: which config each row and seed means, in which folder it runs, what is done already.

Rows of several studies that mean the same config share one run. The plan is written to ``study.json``, which is all
that the report needs besides the runs' own records.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ...config.keys import LOAD_WORDS, get_retina_cfg
from ...config.load import config_difference, load_config
from ...errors import SetupError
from ...files import write_whole
from .index import Study
from .results import file_lock, read_record

__all__ = ["PlannedRun", "StudySettings", "plan_runs", "write_manifest"]

MANIFEST = "study.json"
# A record's status after which a run is not begun again.
ENDED = ("finished", "diverged", "failed")
# Keys whose values count iterations: --fraction scales them together.
ITERATION_KEYS = ("SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")


@dataclass(frozen=True)
class StudySettings:
    """What every run of a study folder has in common.

    ``base_config``: the config that the rows' changes are laid over, "" for each study's own base.
    ``overrides``: KEY VALUE pairs for all of them; ``fraction`` of the schedule's iterations, > 0.
    """

    base_config: str
    overrides: list[str]
    fraction: float


@dataclass(frozen=True)
class PlannedRun:
    """One training: ``opts`` over ``config_file``, in ``folder``."""

    name: str
    config_file: str
    opts: list[str]
    folder: Path
    seed: int
    max_iter: int

    @property
    def status(self) -> str:
        """Of its record; "" without one."""
        return (read_record(self.folder) or {}).get("status", "")

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def plan_runs(
    studies: dict[str, Study], settings: StudySettings, seeds: list[int], output: Path
) -> tuple[list[PlannedRun], dict[str, dict[str, dict[int, PlannedRun]]]]:
    """The runs of all rows and seeds, seed by seed, so that every row has a first result before any has a second.

    Returns:
        the runs, each once; and study -> row -> seed -> run.
    """
    per_row: dict[str, dict[str, dict[int, PlannedRun]]] = {}
    for study in studies.values():
        config_file = settings.base_config or str(study.base)
        base = load_config(config_file, settings.overrides)
        paper_base = load_config(str(study.base), [])
        per_row[study.name] = {}
        for row in study.rows:
            opts = [*_row_opts(row.changes, base, paper_base), *settings.overrides]
            cfg = load_config(config_file, opts)
            opts += _rescheduled(cfg, settings.fraction)
            fingerprint = _fingerprint(load_config(config_file, opts))
            folder = output / "runs" / f"{row.name}-{fingerprint}"
            if not folder.is_dir():  # an earlier call may have made one for another row of the same config
                folder = next(iter(sorted((output / "runs").glob(f"*-{fingerprint}"))), folder)
            per_row[study.name][row.name] = {
                seed: PlannedRun(
                    name=row.name,
                    config_file=config_file,
                    opts=opts,
                    folder=folder / f"seed{seed}",
                    seed=seed,
                    max_iter=round(cfg.SOLVER.MAX_ITER * settings.fraction),
                )
                for seed in seeds
            }
    first: dict[tuple[str, int], PlannedRun] = {}  # rows of equal config take the run of the first of them
    for rows in per_row.values():
        for runs in rows.values():
            for seed, run in runs.items():
                runs[seed] = first.setdefault((_fingerprint_of(run.folder), seed), run)
    return sorted(first.values(), key=lambda run: seeds.index(run.seed)), per_row


def _row_opts(changes: dict[str, Any], base: CfgNode, paper_base: CfgNode) -> list[str]:
    opts = []
    for key, value in changes.items():
        # Weights that fit the paper's base; another base has its own.
        if key == "MODEL.WEIGHTS" and base.MODEL.WEIGHTS != paper_base.MODEL.WEIGHTS:
            continue
        opts += [key, str(value)]
    if changes.get("MODEL.META_ARCHITECTURE") == "GeneralizedRCNN":  # it reads another key for the same number
        opts += ["MODEL.ROI_HEADS.NUM_CLASSES", str(base.MODEL.RETINANET.NUM_CLASSES)]
    return opts


def _rescheduled(cfg: CfgNode, fraction: float) -> list[str]:
    if fraction == 1:
        return []
    opts = []
    for key in ITERATION_KEYS:
        group, name = key.split(".")
        # Warm-up is there for the first steps' sake, which a longer schedule has no more of.
        scale = min(fraction, 1) if key == "SOLVER.WARMUP_ITERS" else fraction
        opts += [key, str(_scaled(cfg[group][name], scale))]
    steps = {_scaled(step, fraction) for step in cfg.SOLVER.STEPS}
    return [*opts, "SOLVER.STEPS", str(tuple(sorted(steps)))]


def _scaled(iterations: int, fraction: float) -> int:
    """At least 1; what is off (0) stays off."""
    return max(round(iterations * fraction), 1) if iterations > 0 else iterations


def _fingerprint(cfg: CfgNode) -> str:
    """Eight letters that two configs share when they say the same; a key that a later version adds changes none."""
    values = {key: value for key, (_, value) in config_difference(cfg, get_retina_cfg()).items()}
    # Studies that were run before MODEL.LOAD have its words as switches.
    values |= {LOAD_WORDS[word]: True for word in values.pop("MODEL.LOAD", "").split("+") if word in LOAD_WORDS}
    for key in ("DATASETS.TRAIN_PATH", "DATASETS.VAL_PATH"):
        if len(values.get(key, ())) == 1:  # the name of a run from before these keys took several paths
            values[key] = values[key][0]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _fingerprint_of(folder: Path) -> str:
    """Of the config that a run's folder is named for."""
    return folder.parent.name.rsplit("-", 1)[1]


def write_manifest(
    output: Path, studies: dict[str, Study], settings: StudySettings, per_row: dict, *, command: str, protocol: str
) -> None:
    """Write or extend ``study.json``.

    Raises:
        SetupError: the folder holds a study with other settings, or other seeds of a row whose config was another.
    """
    with file_lock(output / ".study.lock"):
        path = output / MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"studies": {}}
        before = {key: manifest.get("settings", {}).get(key) for key in asdict(settings)}
        if manifest["studies"] and before != asdict(settings):
            changed = ", ".join(f"{key} was {before[key]!r}" for key in before if before[key] != asdict(settings)[key])
            raise SetupError(f"{output} holds a study with other settings ({changed}). Give another --output.")
        commands = manifest.get("settings", {}).get("command", [])
        seeds = {int(seed) for study in manifest["studies"].values() for row in study["rows"] for seed in row["runs"]}
        manifest["settings"] = {
            **asdict(settings),
            "protocol": protocol or manifest.get("settings", {}).get("protocol", ""),
            "command": commands if command in commands else [*commands, command],
        }
        for study in studies.values():
            manifest["studies"][study.name] = _entry(study, per_row[study.name], manifest, output)
            seeds |= {seed for runs in per_row[study.name].values() for seed in runs}
        manifest["settings"]["seeds"] = sorted(seeds)
        write_whole(path, json.dumps(manifest, indent=1) + "\n")


def _entry(study: Study, runs: dict[str, dict[int, PlannedRun]], manifest: dict, output: Path) -> dict:
    """A study as JSON; seeds of earlier calls stay, and must be of the config that the row means now."""
    earlier = {row["name"]: row["runs"] for row in manifest["studies"].get(study.name, {}).get("rows", [])}
    entry = {**asdict(study), "base": study.base.name}
    for row in entry["rows"]:
        new = {str(seed): run.folder.relative_to(output).as_posix() for seed, run in runs[row["name"]].items()}
        row["runs"] = {**earlier.get(row["name"], {}), **new}
        if len({_fingerprint_of(Path(path)) for path in row["runs"].values()}) > 1:
            others = ", ".join(sorted(row["runs"].keys() - new.keys(), key=int))
            raise SetupError(
                f"{output}: the config of {study.name}/{row['name']} is no longer that of its seeds {others}. "
                "Run those seeds again with the others, or give another --output."
            )
    return entry
