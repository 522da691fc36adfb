"""Anchor sizes of the paper: octaves over the pyramid, divided into equal ratios (Sec. 4, Table 1c)."""

from collections.abc import Sequence

__all__ = ["octave_sizes"]


def octave_sizes(strides: Sequence[int], *, base_size: float, scales_per_octave: int) -> list[list[float]]:
    """Sides of the square anchors of each pyramid level, in pixels.

    Args:
        strides: of the levels, in pixels, e.g. 8, 16, 32, 64, 128 for P3-P7.
        base_size: side of a level's smallest anchor in units of its stride, > 0.
        scales_per_octave: n >= 1; the sizes of a level are ``stride * base_size * 2^(j / n)``, j = 0 .. n - 1.

    Returns:
        One list of n sizes per level. With base_size 4 and n = 3 they run from 32 to 812.75 (Sec. 4: 32-813).
    """
    if not 0 < base_size < float("inf"):
        raise ValueError(f"base_size must be finite and > 0, got {base_size}")
    if scales_per_octave < 1:
        raise ValueError(f"scales_per_octave must be >= 1, got {scales_per_octave}")
    octave = [2 ** (j / scales_per_octave) for j in range(scales_per_octave)]
    return [[stride * base_size * scale for scale in octave] for stride in strides]
