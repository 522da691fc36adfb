"""Plans the runs of studies: config, folder and seed of each, and which are done already.

Rows of several studies with the same config share one run. The plan is written to ``study.json``; a report needs only
this file and the records of the runs.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from detectron2.config import CfgNode

from ...config.keys import LOAD_WORDS, get_retina_cfg
from ...config.load import config_difference, load_config
from ...errors import SetupError
from ...files import write_whole
from .index import Study
from .records import RunRecord
from .results import file_lock, read_plan, read_record

__all__ = ["PlannedRun", "StudySettings", "plan_runs", "write_manifest"]

MANIFEST = "study.json"
# Values of a record's status after which the run is not started again.
ENDED = ("finished", "diverged", "failed")
# Keys whose values count iterations: --fraction scales them together.
ITERATION_KEYS = ("SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")


@dataclass(frozen=True)
class StudySettings:
    """Settings that all runs of a study folder share.

    ``base_config``: the config to which the rows' changes are applied; "" for each study's own base.
    ``overrides``: KEY VALUE pairs for every run.
    ``fraction``: factor on the iterations of the schedule, > 0.
    """

    base_config: str
    overrides: list[str]
    fraction: float


@dataclass(frozen=True)
class PlannedRun:
    """One training with ``config_file`` and ``opts``, in ``folder``."""

    name: str
    config_file: str
    opts: list[str]
    folder: Path
    seed: int
    max_iter: int

    @property
    def status(self) -> str:
        """Status in the run's record; "" without a record."""
        return (read_record(self.folder) or RunRecord()).status

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def plan_runs(
    studies: dict[str, Study], settings: StudySettings, seeds: list[int], output: Path
) -> tuple[list[PlannedRun], dict[str, dict[str, dict[int, PlannedRun]]]]:
    """Plan the runs of all rows and seeds, seed by seed: every row is run once before any is run a second time.

    Returns:
        The runs, each once; and a dict study -> row -> seed -> run.
    """
    per_row: dict[str, dict[str, dict[int, PlannedRun]]] = {}
    for study in studies.values():
        config_file = settings.base_config or str(study.base)
        base = load_config(config_file, settings.overrides)
        paper_base = load_config(str(study.base), [])
        per_row[study.name] = {}
        for row in study.rows:
            opts = []
            for key, value in row.changes.items():
                # These weights fit the study's own base; another base has its own weights.
                if key == "MODEL.WEIGHTS" and base.MODEL.WEIGHTS != paper_base.MODEL.WEIGHTS:
                    continue
                opts += [key, str(value)]
            if row.changes.get("MODEL.META_ARCHITECTURE") == "GeneralizedRCNN":  # its key for the number of classes
                opts += ["MODEL.ROI_HEADS.NUM_CLASSES", str(base.MODEL.RETINANET.NUM_CLASSES)]
            opts += settings.overrides
            cfg = load_config(config_file, opts)
            opts += _scale_schedule(cfg, settings.fraction)
            fingerprint = _fingerprint(load_config(config_file, opts))
            folder = output / "runs" / f"{row.name}-{fingerprint}"
            if not folder.is_dir():  # an earlier call may have named it after another row with the same config
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
    first: dict[tuple[str, int], PlannedRun] = {}  # rows with the same config share the first row's run
    for rows in per_row.values():
        for runs in rows.values():
            for seed, run in runs.items():
                runs[seed] = first.setdefault((_fingerprint_of(run.folder), seed), run)
    return sorted(first.values(), key=lambda run: seeds.index(run.seed)), per_row


def _scale_schedule(cfg: CfgNode, fraction: float) -> list[str]:
    if fraction == 1:
        return []
    opts = []
    for key in ITERATION_KEYS:
        group, name = key.split(".")
        # A longer schedule needs no longer warm-up.
        scale = min(fraction, 1) if key == "SOLVER.WARMUP_ITERS" else fraction
        opts += [key, str(_scaled(cfg[group][name], scale))]
    steps = {_scaled(step, fraction) for step in cfg.SOLVER.STEPS}
    return [*opts, "SOLVER.STEPS", str(tuple(sorted(steps)))]


def _scaled(iterations: int, fraction: float) -> int:
    """Scale a number of iterations, to at least 1; 0 (off) stays 0."""
    return max(round(iterations * fraction), 1) if iterations > 0 else iterations


def _fingerprint(cfg: CfgNode) -> str:
    """Hash (8 letters) of the values that differ from the defaults; a new key in a later version does not change it."""
    values = {key: value for key, (_, value) in config_difference(cfg, get_retina_cfg()).items()}
    # Older studies were hashed when the words of MODEL.LOAD were switches of their own.
    values |= {LOAD_WORDS[word]: True for word in values.pop("MODEL.LOAD", "").split("+") if word in LOAD_WORDS}
    for key in ("DATASETS.TRAIN_PATH", "DATASETS.VAL_PATH"):
        if len(values.get(key, ())) == 1:  # hashed as in versions in which these keys took one path
            values[key] = values[key][0]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _fingerprint_of(folder: Path) -> str:
    """Fingerprint in the name of a run's folder."""
    return folder.parent.name.rpartition("-")[2]


def write_manifest(
    output: Path, studies: dict[str, Study], settings: StudySettings, per_row: dict, *, command: str, protocol: str
) -> None:
    """Write or extend ``study.json``.

    Raises:
        SetupError: the folder holds a study with other settings, or runs of a row whose config has changed since.
    """
    with file_lock(output / ".study.lock"):
        path = output / MANIFEST
        manifest = read_plan(path)[0] if path.is_file() else {"studies": {}}
        former = manifest.get("settings") or {}
        before = {key: former.get(key) for key in asdict(settings)}
        if manifest["studies"] and before != asdict(settings):
            changed = ", ".join(f"{key} was {before[key]!r}" for key in before if before[key] != asdict(settings)[key])
            raise SetupError(f"{output} holds a study with other settings ({changed}). Give another --output.")
        commands = former.get("command") or []
        commands = [commands] if isinstance(commands, str) else commands
        seeds = {int(seed) for study in manifest["studies"].values() for row in study["rows"] for seed in row["runs"]}
        manifest["settings"] = {
            **asdict(settings),
            "protocol": protocol or former.get("protocol") or "",
            "command": commands if command in commands else [*commands, command],
        }
        for study in studies.values():
            manifest["studies"][study.name] = _entry(study, per_row[study.name], manifest, output)
            seeds |= {seed for runs in per_row[study.name].values() for seed in runs}
        manifest["settings"]["seeds"] = sorted(seeds)
        write_whole(path, json.dumps(manifest, indent=1) + "\n")


def _entry(study: Study, runs: dict[str, dict[int, PlannedRun]], manifest: dict, output: Path) -> dict:
    """Describe a study for JSON; seeds of earlier calls stay, and must have the row's present config."""
    earlier = {row["name"]: row["runs"] for row in manifest["studies"].get(study.name, {}).get("rows", [])}
    entry = {**asdict(study), "base": study.base.name}
    # With --rows some rows have no run, now or before: they are no part of the report.
    entry["rows"] = [row for row in entry["rows"] if row["name"] in runs or row["name"] in earlier]
    if study.reference not in [row["name"] for row in entry["rows"]]:
        entry["reference"] = None
    for row in entry["rows"]:
        new = {str(seed): run.folder.relative_to(output).as_posix() for seed, run in runs.get(row["name"], {}).items()}
        row["runs"] = {**earlier.get(row["name"], {}), **new}
        if len({_fingerprint_of(Path(path)) for path in row["runs"].values()}) > 1:
            others = ", ".join(sorted(row["runs"].keys() - new.keys(), key=int))
            raise SetupError(
                f"{output}: the config of {study.name}/{row['name']} is no longer that of its seeds {others}. "
                "Run those seeds again with the others, or give another --output."
            )
    return entry
