"""Try every fault again, and write docs/reliability.md from what was found.

    python tools/faults/run_all.py            # six hours, of which fuzzing has five
    python tools/faults/run_all.py --quick    # every script with few cases, and no record
    python tools/faults/run_all.py --report   # the page alone, from results/reliability/*.json

A record is a JSON object. It has ``rows``, name -> {fault, tried, lost, seen, good, command}; or it is one row itself,
whose ``tried`` may be called ``kills`` or ``cases`` and whose ``faults`` is a list of what went wrong.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from retina_plugin.files import write_whole

ROOT = Path(__file__).parents[2]
RECORDS, PAGE = ROOT / "results/reliability", ROOT / "docs/reliability.md"
# Command, its words for the records of the page, and for a look at whether all still work.
COMMANDS = (
    ("tools/faults/whole_runs.py", "--output {records}/whole_runs.json", ""),
    ("tools/faults/kills.py --workers 0", "--kills 50 --output {records}/kill_9_workers_0.json", "--kills 3"),
    ("tools/faults/kills.py --workers 2 --seed 1", "--kills 50 --output {records}/kill_9_workers_2.json", "--kills 3"),
    ("tools/faults/power_cuts.py", "--output {records}/power_cuts.json", ""),
    ("tools/faults/hostile.py", "--output {records}/hostile.json", ""),
    ("tools/faults/bit_flips.py", "--cases 2000 --output {records}/bit_flips.json", "--cases 200"),
    ("tools/faults/fuzz.py", "--cases 100000 --output {records}", "--cases 200"),
)
HEAD = """# Reliability

What a resumed run shares with one that was never stopped, and how checkpoints are written: [resume.md](resume.md);
what files of others may do: [security.md](security.md).

Made by `python tools/faults/run_all.py --report` from the records in `results/reliability/`, which the scripts wrote.
Every row can be tried again by its command (`PYTHONPATH=. python COMMAND`), all of them by `tools/faults/run_all.py`.

| fault | tried | lost, or spent | what the user saw | as it should be | command |
|---|--:|---|---|---|---|
"""
TAIL = """
What ends a run from outside (status 4), a loss that is not finite (3) and a mistake (2) are told apart by the exit
status; 130 and 143 are Ctrl-C and SIGTERM. Keys:

| key | values | what |
|---|---|---|
| `SOLVER.FAULTS.NONFINITE_LOSS` | `stop`, `skip` | a loss that is not finite ends the run, or its step is left out |
| `SOLVER.FAULTS.OUT_OF_MEMORY` | `stop`, `skip` | the same for lack of memory; `skip` works in one process |
| `--dist-timeout` | seconds, 1800 | how long a process waits for one that fell silent |

A skipped step changes neither weights nor averages, and ten in a row end the run all the same. Of several processes all
skip a step whose loss is not finite in one; one that runs out of memory ends the run. The batch fits with
`SOLVER.ACCUMULATION_STEPS`, which takes it in parts.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--report", action="store_true", help="write the page alone")
    what.add_argument("--quick", action="store_true", help="few cases of each, and neither records nor the page")
    args = parser.parse_args()
    failed = [] if args.report else [command for command in commands(quick=args.quick) if not succeeds(command)]
    if not args.quick:
        write_whole(PAGE, page(RECORDS))
    print(f"failed: {'; '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


def commands(*, quick: bool) -> list[str]:
    records = RECORDS.relative_to(ROOT)
    return [f"{command} {few if quick else many.format(records=records)}".strip() for command, many, few in COMMANDS]


def succeeds(command: str) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *command.split()], cwd=ROOT, env=environment).returncode == 0


def page(folder: Path) -> str:
    """The page from the records of a folder."""
    rows = [(row, path) for path in sorted(folder.glob("*.json")) for row in _rows(path)]
    return HEAD + "".join(_line(row, path) for row, path in rows) + TAIL


def _rows(path: Path) -> list[dict]:
    record = json.loads(path.read_text(encoding="utf-8"))
    return list(record["rows"].values()) if "rows" in record else [record]


def _line(row: dict, path: Path) -> str:
    wrong = row.get("faults", [])
    tried = row.get("tried") or row.get("kills") or row.get("cases") or ""
    known = next((command for command in commands(quick=False) if path.name in command), "")
    if path.stem.startswith("fuzz_"):
        known = f"tools/faults/fuzz.py {path.stem.removeprefix('fuzz_')} --cases 100000"
    cells = (
        row.get("fault") or path.stem.replace("_", " "),
        f"{tried:,}" if isinstance(tried, int) else tried,
        row.get("lost", f"{len(wrong)} cases" if wrong else "nothing"),
        row.get("seen", ""),
        "yes" if row.get("good", not wrong) else "NO",
        f"`{row.get('command', known)}`",
    )
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.exit(main())
