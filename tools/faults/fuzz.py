"""Fuzz one target or all: ``python tools/faults/fuzz.py --cases 100000 --output results/reliability``.

A record says how many cases were tried, how long it took and at which commit. It is written after each 5,000, and a
second call goes on from there. A case that breaks a law is printed, and its target ends.
"""

import argparse
import json
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from fuzz_targets import TARGETS, run  # noqa: E402

from retina_plugin.files import write_whole  # noqa: E402
from retina_plugin.run_record import git_state  # noqa: E402

CHUNK = 5_000  # Hypothesis keeps a tree of every case of a run in memory


def fuzz(name: str, cases: int, seed: int, output: Path | None) -> dict:
    """Try a target until its law is broken; the record, whose ``cases`` held."""
    record_file = output / f"fuzz_{name}.json" if output else None
    versions = {package: version(package) for package in ("hypothesis", "torch", "numpy", "PyYAML")}
    record = {"fault": f"fuzzing: {name}", "cases": 0, "seed": seed, "faults": [], "seconds": 0.0, "versions": versions,
              "git": git_state()}  # fmt: skip
    if record_file and record_file.exists():
        former = json.loads(record_file.read_text())
        same = {"seed": seed, "versions": versions, "faults": []}.items() <= former.items()
        if same and former["git"]["commit"] == record["git"]["commit"]:  # writing a record makes the tree dirty
            record = former
    while record["cases"] < cases and not record["faults"]:
        start = time.perf_counter()
        try:
            tried = run(name, min(CHUNK, cases - record["cases"]), seed=seed * 1_000_000 + record["cases"])
            record["cases"] += tried
        except Exception as error:
            record["faults"].append(f"{error!r}"[:500])
            print(traceback.format_exc(), file=sys.stderr)
        record["seconds"] = round(record["seconds"] + time.perf_counter() - start, 1)
        if record_file:
            write_whole(record_file, json.dumps(record, indent=1) + "\n")
    return record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (all)")
    parser.add_argument("--cases", type=int, default=1000, help="for each target (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (%(default)s)")
    parser.add_argument("--output", type=Path, help="folder for a record of each target")
    args = parser.parse_args()
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
    broken = 0
    for name in args.targets or TARGETS:
        record = fuzz(name, args.cases, args.seed, args.output)
        broken += len(record["faults"])
        state = "BROKEN" if record["faults"] else "held"
        print(f"{name}: {record['cases']} cases, {record['seconds']:.0f} s, {state}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
