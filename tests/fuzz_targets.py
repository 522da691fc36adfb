"""Name -> fuzzing target. ``test_fuzz.py`` and ``faults/fuzz.py`` run them."""

from fuzz_computations import compute_losses, decode_boxes, label_anchors, make_anchors
from fuzz_files import (
    FILES,
    read_archive,
    read_bounded_yaml,
    read_catalog,
    read_config,
    read_format,
    read_named,
    read_pickle,
    read_study,
)
from fuzzing import Target, try_cases

TARGETS: dict[str, Target] = {
    **{f"format_{name}": read_format(name) for name in FILES},
    "catalog": read_catalog(),
    "config": read_config(),
    "weights": read_pickle(),
    "archive": read_archive(),
    "yaml": read_bounded_yaml(),
    "named_files": read_named(),
    "study": read_study(),
    "losses": compute_losses(),
    "anchors": make_anchors(),
    "labelling": label_anchors(),
    "decoding": decode_boxes(),
}


def run(name: str, cases: int, *, seed: int | None = None) -> int:
    """``try_cases`` of a target by its name."""
    return try_cases(TARGETS[name], cases, seed=seed)
