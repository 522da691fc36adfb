"""Study folders made in a test: ``study.json``, run records and learning curves with chosen figures."""

import copy
import json
import math
from pathlib import Path

DATA = {
    "sets": {
        "tiny_train": {"images": 800, "images_with_annotations": 800, "boxes": 5868, "class_names": ["cat", "dog"]},
        "tiny_val": {"images": 100, "images_with_annotations": 100, "boxes": 732, "class_names": ["cat", "dog"]},
    },
    "warnings": [],
}


def make_record(ap: float | None, seed: int, **facts) -> dict:
    """The record of a finished run whose AP50 is 1.5 times its AP, APl undefined."""
    others = {"AP50": 1.5, "AP75": 1.1, "APs": 0.8, "APm": 1.2}
    scores = {"AP": ap, **{name: None if ap is None else factor * ap for name, factor in others.items()}, "APl": None}
    record = {
        "status": "finished",
        "reason": None,
        "git": {"commit": "0123456789abcdef", "dirty": False},
        "versions": {"python": "3.11.7", "torch": "2.14.1", "detectron2": "0.7.2"},
        "hardware": {"machine": "x86_64", "cpu": "A processor", "cpu_threads": 2},
        "seed": seed,
        "command": f"python train_net.py --config-file a.yaml SEED {seed}",
        "data": copy.deepcopy(DATA),
        "iterations": 600,
        "images_per_batch": 8,
        "losses": {"total_loss": 0.2},
        "results": {"bbox": scores},
        "wall_seconds": 360.0,
    }
    return record | facts


def stopped_record(status: str, reason: str, seed: int = 0) -> dict:
    return make_record(None, seed, status=status, reason=reason, results={})


class StudyMaker:
    """Builds a study folder step by step; ``write`` writes ``study.json``."""

    def __init__(self, folder: Path):
        self.folder = folder
        settings = {"base_config": "configs/small.yaml", "overrides": ["SOLVER.MAX_ITER", "600"], "fraction": 1.0}
        more = {"seeds": [0, 1, 2], "command": ["python -m retina_plugin.study run alpha"], "protocol": "Tiny set."}
        self.plan = {"settings": settings | more, "studies": {}}

    def add_study(self, name: str, **facts) -> None:
        defaults = {"title": name.capitalize(), "paper_table": "Table 1", "question": "Does it help?", "plot": "bars"}
        self.plan["studies"][name] = {**defaults, "reference": None, "rows": [], **facts}

    def add_row(self, study: str, name: str, records: list, paper: dict | float | None = None, **facts) -> None:
        """records: one per seed: an AP (None: no detections), a whole record, or "missing" for a run not started."""
        runs = {str(seed): f"runs/{name}-1a2b/seed{seed}" for seed in range(len(records))}
        paper = {"AP": paper, "AP50": None, "source": "1: a row"} if isinstance(paper, (int, float)) else paper
        row = {"name": name, "label": name.replace("_", " "), "changes": {}, "paper": paper, "x": {}, "runs": runs}
        self.plan["studies"][study]["rows"].append(row | facts)
        for seed, record in enumerate(records):
            if record != "missing":
                record = record if isinstance(record, dict) else make_record(record, seed)
                self.write_run(runs[str(seed)], record)

    def write_run(self, path: str, record: dict) -> None:
        folder = self.folder / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run_record.json").write_text(json.dumps(record))
        ap = (record["results"].get("bbox") or {}).get("AP") or 0.0
        lines = [
            {"iteration": i, "total_loss": 0.2 + math.exp(-i / 150) + 0.01 * record["seed"]} for i in range(19, 600, 20)
        ]
        lines += [{"iteration": i, "bbox/AP": ap * i / 600} for i in (199, 399, 599)]
        (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def write(self) -> Path:
        (self.folder / "study.json").write_text(json.dumps(self.plan))
        return self.folder
