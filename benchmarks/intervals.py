"""How sure a median is, and the ratio of two: a bootstrap over rounds, as queries within a round are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calibration.judge import bootstrap

Rounds = Sequence[Sequence[float]]
"""Samples of one thing, round by round. Rounds of things measured in turn belong together by position."""
Interval = tuple[float, float, float]
"""(estimate, low, high)."""


def median_interval(rounds: Rounds, level: float = bootstrap.LEVEL) -> Interval:
    """The median of all samples, and where it lies with probability `level`."""
    medians = [_median(rounds, times) for times in bootstrap.draws(len(rounds))]
    return (_median(rounds), *bootstrap.interval(medians, level))


def ratio_interval(a: Rounds, b: Rounds, *, paired: bool, level: float = bootstrap.LEVEL) -> Interval:
    """The median of `b` over that of `a`, and where the ratio lies with probability `level`.

    Args:
        a: what is divided by.
        b: what is divided.
        paired: whether round i of both was taken one after the other, so that a drift of the machine cancels out.
        level: of the interval.
    """
    assert not paired or len(a) == len(b)
    of_a = bootstrap.draws(len(a))
    of_b = of_a if paired else bootstrap.draws(len(b), seed=1)
    ratios = [_median(b, times_b) / _median(a, times_a) for times_a, times_b in zip(of_a, of_b)]
    return (_median(b) / _median(a), *bootstrap.interval(ratios, level))


def _median(rounds: Rounds, times: npt.NDArray[np.int64] | None = None) -> float:
    """Of all samples; `times` says how often each round is among them, None once each."""
    return float(np.median(np.concatenate([np.tile(samples, n) for samples, n in
                                           zip(rounds, np.ones(len(rounds), int) if times is None else times)])))
