"""Frames a second against workers: the clock starts when all are ready, and what is no measurement is refused."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

from benchmarks.scale import StartedPool, _summary, frames_per_second
from runtime.errors import Incomplete


@dataclass
class Done:
    frames: int


class Stand:
    """A worker that does a segment of 10 frames at once."""

    def __init__(self, error: str = "", dies: bool = False) -> None:
        self.ready = answer(("here", error))
        self._dies = dies

    def start(self, task):
        if self._dies:
            dead: Future = Future()
            dead.set_exception(RuntimeError("gone"))
            return dead
        return answer((Done(10), ""))

    def end(self) -> None:
        pass


def answer(value) -> Future:
    future: Future = Future()
    future.set_result(value)
    return future


class StandPool:
    def __init__(self, *workers: Stand) -> None:
        self.count, self.left = len(workers), deque(workers)

    def start_worker(self) -> Stand:
        return self.left.popleft()


def test_the_clock_starts_when_all_workers_are_ready(monkeypatch):
    pool = StandPool(Stand(), Stand())
    waiting = []
    moments = iter((5.0, 6.0, 7.0, 8.0))

    def clock() -> float:
        waiting.append(len(pool.left))
        return next(moments)

    monkeypatch.setattr("benchmarks.scale.perf_counter", clock)
    assert frames_per_second(pool, ["a", "b", "c"]) == 10.0
    assert waiting == [0, 0, 0, 0]


def test_a_worker_that_cannot_work_or_dies_leaves_no_figure():
    with pytest.raises(Incomplete, match="could not start: no engine"):
        StartedPool(StandPool(Stand(error="no engine")))
    with pytest.raises(Incomplete, match="a segment failed: its worker died: gone"):
        frames_per_second(StandPool(Stand(dies=True)), ["a"])


def test_the_line_says_medians_and_what_ray_takes_more():
    assert _summary(2, [44.0, 40.0, 42.0], [40.0, 40.0, 40.0]) == (
        "2 workers: processes 42.0 frames/s (40.0 to 44.0), Ray 40.0 frames/s (40.0 to 40.0), "
        "Ray takes more by 5.0 % (0.0 to 10.0)")
