"""How long things took."""

from __future__ import annotations

import pytest

from runtime import timing


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])
    return now


def test_the_rate_is_of_the_last_thirty_frames(clock):
    rate = timing.Rate()
    assert (rate.fps, rate.line()) == (0, "")
    rate.tick()
    assert rate.fps == 0
    for step in [10.0] + [0.1] * 30:
        clock[0] += step
        rate.tick()
    assert rate.fps == pytest.approx(10)
    assert rate.line() == "10.0 FPS  "


def test_the_summary_counts_from_the_first_frames_arrival_and_has_percentiles_per_stage(clock):
    times = timing.StageTimes()
    clock[0] = 500  # loading does not count
    for ms in range(1, 101):
        times.add({"inference": ms, "end to end": 1000})
        clock[0] += 0.5
    summary = times.summary()
    assert summary["frames"] == 100
    assert summary["seconds"] == pytest.approx(1 + 99 * 0.5)
    assert summary["fps"] == pytest.approx(100 / 50.5)
    assert summary["stages_ms"]["inference"] == pytest.approx({"p50": 50.5, "p90": 90.1, "p99": 99.01})
    assert list(summary["stages_ms"]) == ["inference", "end to end"]
    assert times.table().splitlines()[1].split() == ["inference", "50.50", "90.10", "99.01"]
