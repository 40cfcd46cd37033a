"""Where to cut an activation's range: four methods, each from a histogram to the largest magnitude represented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from calibration.quantise.ranges import BINS, Magnitudes

LEVELS = 127
"""Positive integers of symmetric INT8."""

STEPS = 255
"""Integers above the lowest one, in 8 bits."""

PERCENTILE = 99.99
"""Share of values, in percent, that the percentile method represents."""

_CANDIDATES = 128


class Range(NamedTuple):
    """What the integers of a tensor represent: from `low` ≤ 0 to `high` ≥ 0; both 0 for one that was zero always."""

    low: float
    high: float


def minmax(seen: Magnitudes, levels: int = LEVELS) -> float:
    """The largest magnitude seen: nothing is cut."""
    return seen.largest


def percentile(seen: Magnitudes, levels: int = LEVELS) -> float:
    """The magnitude that `PERCENTILE` of all values do not exceed; the rest is cut."""
    total = seen.counts.sum()
    index = int(np.searchsorted(np.cumsum(seen.counts), total * PERCENTILE / 100))
    return min((index + 1) * seen.width, seen.largest)


def mse(seen: Magnitudes, levels: int = LEVELS) -> float:
    """The threshold with the smallest mean squared error of rounding and cutting together."""
    x, candidates = seen.centres, _candidates(seen)
    error = []
    for threshold in candidates:
        scale = threshold / levels
        rounded = np.minimum(np.rint(x / scale), levels) * scale
        error.append(float(((x - rounded) ** 2) @ seen.counts))
    return candidates[int(np.argmin(error))]


def entropy(seen: Magnitudes, levels: int = LEVELS) -> float:
    """The threshold whose INT8 distribution diverges least from the float one (Kullback-Leibler).

    Migacz, "8-bit inference with TensorRT", GTC 2017: what lies beyond the threshold is added to the last bin of the
    reference distribution, and each level's count is spread evenly over the bins that it stands for.
    """
    counts = seen.counts.astype(np.float64)
    counts[0] = counts[1]  # exact zeros (ReLU) are represented at any scale and would drown the rest
    best, least = BINS, np.inf
    for kept in range(levels + 1, BINS + 1, BINS // _CANDIDATES):
        reference = counts[:kept].copy()
        reference[-1] += counts[kept:].sum()
        level = np.arange(kept) * (levels + 1) // kept
        occupied = counts[:kept] > 0
        total = np.bincount(level, counts[:kept], levels + 1)
        share = np.bincount(level, occupied, levels + 1)
        spread = np.where(occupied, (total / np.maximum(share, 1))[level], 0)
        divergence = _divergence(reference, spread)
        if divergence < least:
            best, least = kept, divergence
    return min(best * seen.width, seen.largest)


METHODS: dict[str, Callable[[Magnitudes, int], float]] = {
    "minmax": minmax, "percentile": percentile, "entropy": entropy, "mse": mse}
"""By the name that `--method` takes."""


def choose(method: str, seen: Mapping[str, Magnitudes], *, zero_points: bool = False,
           unsigned: bool = False) -> dict[str, Range]:
    """The range of every tensor: to the threshold, or to what was seen on that side where that is nearer.

    Args:
        method: a key of `METHODS`.
        seen: by tensor.
        zero_points: whether all integers will lie within the range; else they lie evenly around zero.
        unsigned: whether they lie within the range of what is never negative in any case.
    """
    return {name: _range(method, magnitudes, zero_points or (unsigned and not magnitudes.lowest))
            for name, magnitudes in seen.items()}


def _range(method: str, seen: Magnitudes, within: bool) -> Range:
    if not seen.largest:
        return Range(0.0, 0.0)
    levels = round(STEPS * seen.largest / (seen.highest - seen.lowest)) if within else LEVELS
    top = METHODS[method](seen, levels)
    return Range(max(seen.lowest, -top), min(seen.highest, top))


def _candidates(seen: Magnitudes) -> list[float]:
    return [seen.largest * i / _CANDIDATES for i in range(_CANDIDATES // 16, _CANDIDATES + 1)]


def _divergence(reference: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
                other: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    p, q = reference / reference.sum(), other / max(other.sum(), 1e-12)
    where = p > 0
    return float(np.sum(p[where] * np.log(p[where] / np.maximum(q[where], 1e-9))))
