"""One comparison of a benchmark: what was compared, at which size, whether it is equal, and how long it took."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch

from .memory import peak_bytes
from .timing import paired_ratio, spread, time_in_turn

__all__ = ["Measurement", "Settings", "compare"]


@dataclass(frozen=True)
class Settings:
    """What every case is told."""

    device: str  # "cpu" or "cuda"
    quick: bool  # small sizes and few rounds: all cases together in two minutes
    rounds: int  # samples of each variant


@dataclass
class Measurement:
    """The outcome, as it is written into the record."""

    case: str
    what: str  # a line for the table
    parameters: dict[str, int | float | str]
    seconds: dict[str, dict[str, float]]  # variant -> median, q1, q3 of one call
    speedup: dict[str, dict[str, float]]  # peer -> median, q1, q3 of peer / ours, round by round
    peak_bytes: dict[str, int] = field(default_factory=dict)  # variant -> beyond what was alive before
    equality: dict[str, float] = field(default_factory=dict)  # what -> largest difference between ours and the peer
    limits: dict[str, float] = field(default_factory=dict)  # what -> seconds that the machine needs at least
    figures: dict[str, float | str] = field(default_factory=dict)  # anything else measured

    def as_dict(self) -> dict:
        return asdict(self)


def compare(
    case: str, what: str, variants: Mapping[str, Callable[[], object]], *, ours: str, settings: Settings,
    parameters: Mapping[str, int | float | str], memory: bool = False, warmup: int = 2, **facts: dict,
) -> Measurement:  # fmt: skip
    """Time the variants in turn, and their peak memory where ``memory`` asks for it.

    Args:
        ours: name of the plugin's variant; every other one is a peer.
        facts: ``equality``, ``limits``, ``figures`` of the measurement.
    """
    peaks = {name: peak_bytes(work) for name, work in variants.items()} if memory else {}
    samples = time_in_turn(variants, rounds=settings.rounds, warmup=warmup)
    return Measurement(
        case=case,
        what=what,
        parameters={**parameters, "threads": torch.get_num_threads(), "device": settings.device},
        seconds={name: asdict(spread(times)) for name, times in samples.items()},
        speedup={name: asdict(paired_ratio(samples[name], samples[ours])) for name in variants if name != ours},
        peak_bytes=peaks,
        **facts,
    )
