"""Pictures of one set that are, or look like, pictures of another, without comparing each with each."""

from collections.abc import Iterator, Sequence

import numpy as np

from .fingerprint import ImageLook

__all__ = ["find_near", "group_exact"]

# Of 64 bits, and correlation of the gray levels of two thumbs. Measured: copies of 180 photographs (blood cells, COCO,
# frames from the air), saved anew at quality 50 or at half the size, differ by up to 6 bits at a correlation of 0.95 or
# more. Of the 441 blood cells and COCO photographs no two but one, which show the same cells, are within 11 bits.
MAX_BITS = 7
MIN_CORRELATION = 0.95
# 4 bands of 16 bits: of 7 bits that differ at most 1 falls into some band (7 // 4), so 17 probes a band find all.
_BANDS, _BAND_BITS = 4, 16
_PROBES = np.array([0, *(1 << bit for bit in range(_BAND_BITS))], dtype=np.uint16)
# Gray levels. A picture as even as this has a hash of noise; only its bytes can tell it from others.
_EVEN = 3.0
_BLOCK = 2**20  # pairs compared at once: 8 MB of hashes

_ONES = np.array([bin(value).count("1") for value in range(2**_BAND_BITS)], dtype=np.uint8)


def group_exact(looks: Sequence[ImageLook]) -> list[list[int]]:
    """Indices of images with the same bytes, groups of two or more."""
    groups: dict[bytes, list[int]] = {}
    for i, look in enumerate(looks):
        if look.digest:
            groups.setdefault(look.digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def find_near(train: Sequence[ImageLook], test: Sequence[ImageLook]) -> dict[int, tuple[int, float]]:
    """Index of a test image -> index of the training image most like it, and their correlation.

    Pairs with the same bytes are left out, even pictures too. Time and memory grow with the images and with the pairs
    that share most of a hash, not with the product of the sets.
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


def _arrays(looks: Sequence[ImageLook]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the images that are not even: (n,) index, (n, 4) uint16 bands, (n, 256) gray levels of mean 0, deviation 1."""
    rows = np.array([i for i, look in enumerate(looks) if look.thumb], dtype=int)
    if not len(rows):
        return rows, np.zeros((0, _BANDS), np.uint16), np.zeros((0, 1), np.float32)
    thumbs = np.stack([np.frombuffer(looks[i].thumb, np.uint8) for i in rows]).astype(np.float32)
    deviation = thumbs.std(axis=1)
    told = deviation >= _EVEN
    rows, thumbs = rows[told], thumbs[told]
    thumbs = (thumbs - thumbs.mean(axis=1, keepdims=True)) / deviation[told, None]
    bands = np.array([np.frombuffer(looks[i].dhash, ">u2") for i in rows], dtype=np.uint16).reshape(-1, _BANDS)
    return rows, bands, thumbs


def _candidates(train: np.ndarray, test: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (indices into train, into test) within MAX_BITS, in blocks; a pair may come more than once."""
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
