"""A turn begins once the threads of the one before have stopped working, and its first run does not count."""

from __future__ import annotations

import time
from itertools import chain, repeat

import pytest

from runtime import turns


class Clock:
    """Time that passes while somebody sleeps, and threads that meanwhile work for shares of it."""

    def __init__(self, monkeypatch, shares):
        self.now, self.worked, self._shares = 0.0, 0.0, iter(shares)
        for name, read in (("perf_counter", lambda: self.now), ("process_time", lambda: self.worked),
                           ("sleep", self.sleep)):
            monkeypatch.setattr(time, name, read)

    def sleep(self, seconds):
        self.now += seconds
        self.worked += next(self._shares) * seconds


@pytest.mark.parametrize("shares", [(1, 2, 0.5, 0), (0.01,), (1, 0)])
def test_it_waits_for_threads_that_still_work(monkeypatch, shares):
    clock = Clock(monkeypatch, shares)
    turns.come_to_rest()
    assert clock.now == pytest.approx(len(shares) * turns.STEP_S)


def test_it_does_not_wait_for_ever(monkeypatch):
    clock = Clock(monkeypatch, repeat(1))
    turns.come_to_rest()
    assert clock.now == pytest.approx(turns.LONGEST_S, rel=0.05)


def test_the_first_run_warms_up_and_does_not_count(monkeypatch):
    clock, takes, begun = Clock(monkeypatch, chain((1, 1), repeat(0))), iter((9.0, 0.010, 0.020)), []

    def run():
        begun.append(clock.now)
        clock.now += next(takes)

    assert turns.turn(run, 2) == pytest.approx([10, 20])
    assert begun[0] == pytest.approx(3 * turns.STEP_S)
