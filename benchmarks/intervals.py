"""How sure a median is, and the ratio of two: a bootstrap over rounds, as queries within a round are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95

Rounds = Sequence[Sequence[float]]
"""Samples of one thing, round by round. Rounds of things measured in turn belong together by position."""
Interval = tuple[float, float, float]
"""(estimate, low, high)."""


def median_interval(rounds: Rounds, level: float = LEVEL) -> Interval:
    """The median of all samples, and where it lies with probability `level`."""
    medians = [_median(rounds, pick) for pick in _picks(len(rounds), 0)]
    return (_median(rounds, range(len(rounds))), *_percentiles(medians, level))


def ratio_interval(a: Rounds, b: Rounds, *, paired: bool, level: float = LEVEL) -> Interval:
    """The median of `b` over that of `a`, and where the ratio lies with probability `level`.

    Args:
        a: what is divided by.
        b: what is divided.
        paired: whether round i of both was taken one after the other, so that a drift of the machine cancels out.
        level: of the interval.
    """
    assert not paired or len(a) == len(b)
    picks = _picks(len(a), 0)
    others = picks if paired else _picks(len(b), 1)
    ratios = [_median(b, other) / _median(a, pick) for pick, other in zip(picks, others)]
    estimate = _median(b, range(len(b))) / _median(a, range(len(a)))
    return (estimate, *_percentiles(ratios, level))


def _picks(rounds: int, seed: int) -> npt.NDArray[np.int64]:
    """[RESAMPLES, rounds] positions drawn with replacement; the same ones every time."""
    return np.random.default_rng(seed).integers(0, rounds, (RESAMPLES, rounds))


def _median(rounds: Rounds, pick: Sequence[int] | npt.NDArray[np.int64] | range) -> float:
    return float(np.median(np.concatenate([np.asarray(rounds[i]) for i in pick])))


def _percentiles(values: Sequence[float], level: float) -> tuple[float, float]:
    low, high = np.percentile(values, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)
