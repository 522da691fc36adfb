"""What a fuzzing target is, and how its cases are tried."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st


class Target(NamedTuple):
    """``cases``: of one argument each; ``make_law(folder)``: the function that a case goes into, which may raise."""

    cases: st.SearchStrategy
    make_law: Callable[[Path], Callable]


def try_cases(target: Target, cases: int, *, seed: int | None = None) -> int:
    """Try about ``cases`` of a target, return how many; one that breaks the law raises, made as small as it can be.

    Args:
        seed: of the cases; None takes the same ones every time.
    """
    import hypothesis

    tried = 0

    def count(case) -> None:
        nonlocal tried
        tried += 1
        law(case)

    settings = hypothesis.settings(
        max_examples=cases, deadline=None, database=None, derandomize=seed is None, print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        law = target.make_law(Path(folder))
        test = settings(hypothesis.given(target.cases)(count))
        if seed is not None:
            test = hypothesis.seed(seed)(test)
        test()
    return tried
