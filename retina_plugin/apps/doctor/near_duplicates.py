"""Finds images of one set that are equal to, or look like, images of another, without comparing all pairs."""

from collections.abc import Iterator, Sequence

import numpy as np

from .fingerprint import ImageScan

__all__ = ["find_near", "group_exact"]

# Two images are alike if at most MAX_BITS of 64 hash bits differ and the gray levels of their thumbnails correlate.
# Measured: copies of 180 photographs (blood cells, COCO, aerial frames), saved again at quality 50 or at half the size,
# differ by up to 6 bits with a correlation of 0.95 or more. Among 441 blood cell and COCO photographs only one pair is
# within 11 bits, and both of its images show the same cells.
MAX_BITS = 7
MIN_CORRELATION = 0.95
# 4 bands of 16 bits: if 7 bits differ, some band has at most 1 of them (7 // 4), so 17 probes a band find every pair.
_BANDS, _BAND_BITS = 4, 16
_PROBES = np.array([0, *(1 << bit for bit in range(_BAND_BITS))], dtype=np.uint16)
# Standard deviation in gray levels. The hash of an image with less contrast is noise, so only its bytes are compared.
_MIN_CONTRAST = 3.0
_BLOCK = 2**20  # pairs compared at once: 8 MB of hashes

_ONES = np.array([bin(value).count("1") for value in range(2**_BAND_BITS)], dtype=np.uint8)


def group_exact(scans: Sequence[ImageScan]) -> list[list[int]]:
    """Group the indices of images with the same bytes; only groups of two or more are returned."""
    groups: dict[bytes, list[int]] = {}
    for i, scan in enumerate(scans):
        if scan.digest:
            groups.setdefault(scan.digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def find_near(train: Sequence[ImageScan], test: Sequence[ImageScan]) -> dict[int, tuple[int, float]]:
    """Map the index of a test image to that of the most similar training image, and their correlation.

    Pairs with the same bytes and images without contrast are left out. Time and memory grow with the number of images
    and of pairs with near hashes, not with the product of the sizes of the sets.
    """
    train_rows, train_bands, train_thumbs = _arrays(train)
    test_rows, test_bands, test_thumbs = _arrays(test)
    best: dict[int, tuple[int, float]] = {}
    for a, b in _candidates(train_bands, test_bands):
        correlation = (train_thumbs[a] * test_thumbs[b]).mean(axis=1)
        for k in np.flatnonzero(correlation >= MIN_CORRELATION):
            i, j, value = int(train_rows[a[k]]), int(test_rows[b[k]]), float(correlation[k])
            if train[i].digest != test[j].digest and value > best.get(j, (0, 0.0))[1]:
                best[j] = (i, value)
    return best


def _arrays(scans: Sequence[ImageScan]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images with contrast: (n,) index, (n, 4) uint16 hash bands, (n, 256) gray levels with mean 0, deviation 1."""
    rows = np.array([i for i, scan in enumerate(scans) if scan.thumb], dtype=int)
    if not len(rows):
        return rows, np.zeros((0, _BANDS), np.uint16), np.zeros((0, 1), np.float32)
    thumbs = np.stack([np.frombuffer(scans[i].thumb, np.uint8) for i in rows]).astype(np.float32)
    deviation = thumbs.std(axis=1)
    clear = deviation >= _MIN_CONTRAST
    rows, thumbs = rows[clear], thumbs[clear]
    thumbs = (thumbs - thumbs.mean(axis=1, keepdims=True)) / deviation[clear, None]
    bands = np.array([np.frombuffer(scans[i].dhash, ">u2") for i in rows], dtype=np.uint16).reshape(-1, _BANDS)
    return rows, bands, thumbs


def _candidates(train: np.ndarray, test: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (indices into train, into test) within MAX_BITS, in blocks; a pair may come more than once."""
    for band in range(_BANDS):
        order = np.argsort(train[:, band], kind="stable")
        values = train[order, band]
        for probe in _PROBES:
            keys = test[:, band] ^ probe
            low, high = (np.searchsorted(values, keys, side) for side in ("left", "right"))
            ends = np.cumsum(high - low)
            for first in range(0, int(ends[-1]) if len(ends) else 0, _BLOCK):
                pairs = np.arange(first, min(first + _BLOCK, int(ends[-1])))
                b = np.searchsorted(ends, pairs, "right")
                a = order[high[b] - (ends[b] - pairs)]
                near = _ONES[train[a] ^ test[b]].sum(axis=1) <= MAX_BITS
                if near.any():
                    yield a[near], b[near]
