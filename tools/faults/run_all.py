"""Try every fault again, and write docs/reliability.md from the results.

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
    ("tools/faults/commands.py", "--output {records}/commands.json", "--stride 50"),
    ("tools/faults/bit_flips.py", "--cases 2000 --output {records}/bit_flips.json", "--cases 200"),
    ("tools/faults/fuzz.py", "--cases 100000 --output {records}", "--cases 200"),
)
HEAD = """# Reliability

This page lists the faults that were tried against the plugin and their results. [resume.md](resume.md) describes exact
resume and the writing of checkpoints, [security.md](security.md) the treatment of untrusted files.

`python tools/faults/run_all.py --report` writes this page from the records in `results/reliability/`. You can repeat
each row by its command (`PYTHONPATH=. python COMMAND`), and all of them by `tools/faults/run_all.py`.

| fault | tried | lost, or spent | message to the user | as expected | command |
|---|--:|---|---|---|---|
"""
TAIL = """
The exit status is 2 for a mistake of the user, 3 for a loss that is not finite, 4 for a fault of the machine, 130 for
Ctrl-C and 143 for SIGTERM. Keys:

| key | values | meaning |
|---|---|---|
| `SOLVER.FAULTS.NONFINITE_LOSS` | `stop`, `skip` | end the run at a loss that is not finite, or skip its step |
| `SOLVER.FAULTS.OUT_OF_MEMORY` | `stop`, `skip` | the same if memory runs out; `skip` works with one process |
| `--dist-timeout` | seconds, 1800 | time for which a process waits for a silent one |

A skipped step changes neither weights nor averages, and ten in a row end the run. With several processes, all skip a
step whose loss is not finite in one of them, and a process that runs out of memory ends the run. To make a batch fit,
set `SOLVER.ACCUMULATION_STEPS`, which processes it in parts.
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
