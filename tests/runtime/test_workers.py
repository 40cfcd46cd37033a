"""Tasks over workers: none is lost, none is done twice, none is tried for ever."""

from __future__ import annotations

import os
import signal
from collections import deque
from concurrent.futures import Future
from functools import partial

import pytest

from runtime.errors import Incomplete, UserError
from runtime.workers import Processes, attempt, opened, spread


class Fake:
    """Workers in this thread. `deaths`: task → how often it kills its worker; `failed_starts`: so many cannot start."""

    def __init__(self, count=2, deaths=None, failed_starts=0, unable=""):
        self.count, self.deaths, self.failed_starts, self.unable = count, dict(deaths or {}), failed_starts, unable
        self.started, self.ended, self.done = 0, 0, []

    def start_worker(self):
        self.started += 1
        worker = FakeWorker(self)
        if self.started <= self.failed_starts:
            worker.ready.set_exception(Incomplete("no memory"))
        else:
            worker.ready.set_result((f"node {self.started}", self.unable))
        return worker


class FakeWorker:
    def __init__(self, pool):
        self.pool, self.ready = pool, Future()

    def start(self, task):
        future = Future()
        if self.pool.deaths.get(task, 0):
            self.pool.deaths[task] -= 1
            future.set_exception(Incomplete("killed"))
        else:
            self.pool.done.append(task)
            future.set_result(attempt(lambda t: t * 10 if t >= 0 else 1 // 0, task))
        return future

    def end(self):
        self.pool.ended += 1


def test_every_task_has_one_outcome_and_all_workers_are_ended():
    pool = Fake()
    outcomes = list(spread(pool, deque(range(7))))
    assert sorted(o.value for o in outcomes) == [0, 10, 20, 30, 40, 50, 60]
    assert {(o.error, o.tries) for o in outcomes} == {("", 1)}
    assert (pool.started, pool.ended) == (2, 2)


def test_the_task_of_a_worker_that_died_is_given_to_a_new_one_and_the_others_are_not_done_again():
    pool = Fake(deaths={3: 2})
    outcomes = {o.task: o for o in spread(pool, deque(range(7)))}
    assert (outcomes[3].value, outcomes[3].tries) == (30, 3)
    assert sorted(pool.done) == list(range(7))
    assert (pool.started, pool.ended) == (4, 4)


def test_a_task_that_kills_every_worker_is_given_up_after_so_many_tries():
    outcomes = {o.task: o for o in spread(Fake(deaths={1: 99}), deque(range(3)), tries=2)}
    assert (outcomes[1].value, outcomes[1].tries, outcomes[1].error) == (None, 2, "its worker died: killed")
    assert outcomes[0].value == 0
    assert outcomes[2].value == 20


def test_a_task_that_fails_is_tried_again_after_all_others_and_its_last_error_is_told():
    pool = Fake(count=1)
    outcomes = list(spread(pool, deque([-1, 1, 2]), tries=3))
    assert pool.done == [-1, 1, 2, -1, -1]
    assert outcomes[-1].error.startswith("ZeroDivisionError: ")
    assert "test_workers.py:" in outcomes[-1].error


def test_tasks_that_come_up_between_two_outcomes_are_done_too():
    tasks = deque([1])
    seen = []
    for outcome in spread(Fake(), tasks):
        seen.append(outcome.task)
        if outcome.task < 4:
            tasks.append(outcome.task + 1)
    assert seen == [1, 2, 3, 4]


def test_workers_that_fail_to_start_are_replaced_but_not_for_ever():
    assert len(list(spread(Fake(count=2, failed_starts=5), deque(range(3))))) == 3
    with pytest.raises(Incomplete, match="7 workers ended before they were ready"):
        list(spread(Fake(count=2, failed_starts=99), deque(range(3))))


def test_what_a_worker_cannot_open_ends_the_run_with_its_reason_and_all_workers():
    pool = Fake(unable="there is no engine")
    with pytest.raises(Incomplete, match=r"a worker on node \d could not start: there is no engine"):
        list(spread(pool, deque(range(3))))
    assert pool.ended == 2


def _refuse():
    raise UserError("no engine")


def test_an_opening_that_fails_is_told_as_a_failed_task_is():
    assert opened(_refuse) == (None, "no engine")


def _double_or_die(dying, task):
    if task == dying:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * task, os.getpid()


def _opening(dying):
    return partial(_double_or_die, dying)


def test_processes_of_this_machine_survive_the_death_of_one():
    outcomes = {o.task: o for o in spread(Processes(partial(_opening, 2), 1), deque([1, 2, 3]), tries=1)}
    assert (outcomes[1].value[0], outcomes[3].value[0]) == (2, 6)
    assert outcomes[1].value[1] != outcomes[3].value[1]
    assert outcomes[2].error == "its worker died: its process ended with code -9"
    for pid in (outcomes[1].value[1], outcomes[3].value[1]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
