"""Flip one bit of a checkpoint, or cut it short, at random places: who sees it?

python tools/faults/bit_flips.py --cases 2000 --output results/reliability/bit_flips.json
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from records import damage, end_with_record, versions

from retina_plugin.weights.files import write_checkpoint


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def outcome(path: Path, whole: dict) -> str:
    """What becomes of the file at ``path`` here, and would by ``torch.load`` alone."""
    seen = bool(damage(path))
    try:
        loaded = "as it was" if same(torch.load(path, weights_only=True), whole) else "other weights"
    except Exception:  # whatever the changed bytes ask for
        loaded = "an error"
    return f"{'seen' if seen else 'not seen'}; torch.load gives {loaded}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="of each kind (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the places")
    parser.add_argument("--output", type=Path, help="JSON file of the figures; without it they are printed alone")
    args = parser.parse_args()
    taken = versions()
    torch.manual_seed(args.seed)
    places = random.Random(args.seed)
    whole = {"model": {f"layer{i}.weight": torch.randn(37, 11) for i in range(20)}, "iteration": 3}
    outcomes = {"flipped bit": Counter(), "cut short": Counter()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model_0000003.pth")
        write_checkpoint(path, whole)
        data = path.read_bytes()
        for _ in range(args.cases):
            changed = bytearray(data)
            changed[places.randrange(len(data))] ^= 1 << places.randrange(8)
            for kind, content in (("flipped bit", bytes(changed)), ("cut short", data[: places.randrange(len(data))])):
                path.write_bytes(content)
                outcomes[kind][outcome(path, whole)] += 1
    bad = [
        name for counts in outcomes.values() for name in counts if name.startswith("not") and "as it was" not in name
    ]
    record = {"fault": "a damaged checkpoint", "cases": args.cases, "seed": args.seed, **taken,
              "outcomes": {kind: dict(counts) for kind, counts in outcomes.items()}, "faults": bad}  # fmt: skip
    return end_with_record(record, args.output)


if __name__ == "__main__":
    sys.exit(main())
