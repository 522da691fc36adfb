"""How the scripts beside this one end: their figures printed, kept in a file, and told by the exit status."""

import json
from pathlib import Path

import torch

from retina_plugin.errors import first_line
from retina_plugin.files import write_whole
from retina_plugin.run_record import git_state
from retina_plugin.weights.read import read_weights

__all__ = ["damage", "end_with_record", "end_with_rows", "versions"]


def damage(checkpoint: Path) -> str:
    """Return what keeps a checkpoint from being read; "" if nothing does."""
    try:
        read_weights(str(checkpoint))
    except Exception as error:
        return first_line(error)
    return ""


def versions() -> dict:
    """What figures hang on, for their record; to be called before the first of them."""
    return {"torch": torch.__version__, "git": git_state()}


def end_with_record(record: dict, output: Path | None) -> int:
    """Print a record, write it where asked; the exit status: 1 where its ``faults`` are not empty."""
    text = json.dumps(record, indent=1)
    print(text)
    _write(text, output)
    return 1 if record["faults"] else 0


def end_with_rows(rows: dict[str, dict], output: Path | None) -> int:
    """Write rows where asked, beside those of the file that were not tried anew; 1 where one is not ``good``."""
    former = json.loads(output.read_text())["rows"] if output and output.exists() else {}
    _write(json.dumps({"rows": {**former, **rows}}, indent=1), output)
    return 0 if all(row["good"] for row in rows.values()) else 1


def _write(text: str, output: Path | None) -> None:
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, text + "\n")
