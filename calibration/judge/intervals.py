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
    medians = [median(rounds, times) for times in bootstrap.draws(len(rounds))]
    return (median(rounds), *bootstrap.interval(medians, level))


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
    ratios = [median(b, times_b) / median(a, times_a) for times_a, times_b in zip(of_a, of_b)]
    return (median(b) / median(a), *bootstrap.interval(ratios, level))


def difference_interval(a: Rounds, b: Rounds, level: float = bootstrap.LEVEL) -> Interval:
    """By how much the median of `b` lies above that of `a`, and where that lies with probability `level`; round i of
    both was taken one after the other."""
    differences = [median(b, times) - median(a, times) for times in bootstrap.draws(len(a))]
    return (median(b) - median(a), *bootstrap.interval(differences, level))


def median(rounds: Rounds, times: npt.NDArray[np.int64] | None = None) -> float:
    """The median of all samples; `times` says how often each round is among them, None once each."""
    samples = np.concatenate(rounds)
    return float(np.median(samples if times is None else samples.repeat(np.repeat(times, [len(it) for it in rounds]))))
