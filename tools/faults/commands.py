"""Give every command of ``retina`` every bad value and file of ``tests/bad_inputs.py``; minutes.

    python tools/faults/commands.py --output results/reliability/commands.json

A fault is a traceback, success where there is nothing to do, or a message that is long or does not name the bad value.
"""

import argparse
import collections
import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from bad_inputs import attempt, bad_inputs, find_fault, spare_the_quickstart, write_bench  # noqa: E402
from conftest import make_tiny_cfg  # noqa: E402
from records import end_with_rows, versions  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], metavar="COMMAND", help="commands to try (all)")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="every Nth case alone (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file of the row; without it the faults are printed alone")
    args = parser.parse_args()
    output = args.output and args.output.resolve()
    logging.raiseExceptions = False  # the handlers of a case outlive its stream
    taken, tried, faults = versions(), collections.Counter(), []
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), pytest.MonkeyPatch.context() as monkeypatch:
        folder = Path(name)
        write_bench(folder, make_tiny_cfg())
        spare_the_quickstart(monkeypatch, folder)
        for number, case in enumerate(list(bad_inputs())[:: args.stride]):
            if args.only and case.words[0] not in args.only:
                continue
            end = attempt(case, folder / f"out{number}")
            tried[case.words[0]] += 1
            if fault := find_fault(case, end):
                faults.append(fault)
                print(f"retina {' '.join(case.words)[:200]!r} | {fault}\n{end.traceback}", flush=True)
    print(f"{len(tried)} commands, {tried.total()} bad inputs, {len(faults)} faults; by command: {dict(tried)}")
    row = {
        "fault": f"bad values and files for each of {len(tried)} commands",
        "tried": tried.total(),
        "by_command": dict(tried),
        "good": not faults,
        "lost": "nothing" if not faults else f"{len(faults)} faults",
        "seen": "one sentence with the argument or its value, exit status 1 or 2",
        "command": "tools/faults/commands.py",
    }
    return end_with_rows({"bad inputs of the commands": {**row, **taken}}, output)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # handlers of the last case may point to streams that are gone
