from __future__ import annotations

import numpy as np
import pytest

from calibration.judge import bootstrap
from calibration.judge.intervals import difference_interval, median_interval, ratio_interval


def test_median_of_what_never_varies_is_certain() -> None:
    assert median_interval([[2.0, 2.0]] * 5) == (2.0, 2.0, 2.0)


def test_interval_holds_the_median_and_widens_with_the_spread_between_rounds() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for spread in (0.1, 1.0):
        rounds = [list(10 + spread * rng.standard_normal() + 0.01 * rng.standard_normal(50)) for _ in range(20)]
        median, low, high = median_interval(rounds)
        assert low <= median <= high
        widths.append(high - low)
    assert widths[1] > 3 * widths[0]


def test_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS", 200)
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        _, low, high = median_interval([list(5 + rng.standard_normal(3)) for _ in range(20)])
        hits += low <= 5 <= high
    assert hits >= 51  # 95 % of 60 is 57; fewer than 51 happens once in 200 times


def test_drift_that_meets_both_cancels_out_of_a_paired_ratio() -> None:
    slow = [[float(10 * (1 + i))] * 3 for i in range(10)]  # the machine gets slower from round to round
    twice = [[2 * value for value in times] for times in slow]
    assert ratio_interval(slow, twice, paired=True) == (2.0, 2.0, 2.0)
    _, low, high = ratio_interval(slow, twice, paired=False)
    assert low < 1.5
    assert high > 2.5


def test_pairs_must_match() -> None:
    with pytest.raises(AssertionError):
        ratio_interval([[1.0]], [[1.0], [2.0]], paired=True)


def test_drift_that_meets_both_leaves_a_difference_alone() -> None:
    slow = [[float(1 + i)] * 3 for i in range(10)]
    later = [[value + 0.5 for value in times] for times in slow]
    assert difference_interval(slow, later) == (0.5, 0.5, 0.5)
