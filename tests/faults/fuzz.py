"""Fuzz one target or all: ``python tests/faults/fuzz.py --cases 100000 --output results/reliability``.

A record says how many cases were tried, how long it took and what was found. A case that breaks a law is printed.
"""

import argparse
import json
import platform
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from fuzz_targets import TARGETS, run  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (all)")
    parser.add_argument("--cases", type=int, default=1000, help="for each target (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the cases (%(default)s)")
    parser.add_argument("--output", type=Path, help="folder for a record of each target")
    args = parser.parse_args()
    broken = 0
    for name in args.targets or TARGETS:
        start, found = time.perf_counter(), ""
        try:
            run(name, args.cases, seed=args.seed)
        except Exception:
            found, broken = traceback.format_exc(), broken + 1
            print(found, file=sys.stderr)
        seconds = time.perf_counter() - start
        print(f"{name}: {args.cases} cases, {seconds:.0f} s, {'BROKEN' if found else 'held'}", flush=True)
        if args.output and not found:
            record = {
                "target": name, "cases": args.cases, "seed": args.seed, "broken": 0, "seconds": round(seconds, 1),
                "versions": {p: version(p) for p in ("hypothesis", "torch", "numpy", "PyYAML")},
                "python": platform.python_version(),
            }  # fmt: skip
            args.output.mkdir(parents=True, exist_ok=True)
            (args.output / f"fuzz_{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
