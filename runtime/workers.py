"""Tasks over workers: each is done, or has failed a bounded number of times; a worker that dies is replaced.

    for outcome in spread(pool, deque(tasks)):
        ...

A worker opens what it needs once and then does one task at a time, so that what is on its way is bounded and a death
takes one task with it, which another worker is given. A pool starts the workers: processes of this
machine (`Processes`, below), or actors of a Ray cluster (`runtime.cluster`).
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

from runtime.errors import EdgesegError, Incomplete
from runtime.signals import stoppable

Task = TypeVar("Task")
Work = Callable[[Any], Any]
"""Does one task."""

Opening = Callable[[], Work]
"""Run once in every worker; must be picklable, as its tasks and what becomes of them must."""

TRIES = 3
"""How often a task is begun at most."""

_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Outcome(Generic[Task]):
    """What became of a task.

    Attributes:
        task: as it was given.
        value: what the work returned; None where it failed.
        error: why it failed, in one line; "" where it did not.
        tries: how often it was begun.
        node: the machine that did it last.
    """

    task: Task
    value: Any
    error: str
    tries: int
    node: str


class Worker(Protocol):
    """A process that works on tasks. Both futures fail only when it has died, with the reason.

    Attributes:
        ready: the name of its machine, and why it cannot start there, "" where it can.
    """

    ready: Future[tuple[str, str]]

    def start(self, task: Any) -> Future[tuple[Any, str]]:
        """Begin a task; what `attempt` returns comes later."""
        ...

    def end(self) -> None:
        """Stop, also in the middle of a task."""
        ...


class Pool(Protocol):
    """Where workers come from.

    Attributes:
        count: how many there are to be.
    """

    count: int

    def start_worker(self) -> Worker:
        """One more, which may take a while to become ready."""
        ...


def spread(pool: Pool, tasks: deque[Task], tries: int = TRIES) -> Iterator[Outcome[Task]]:
    """Do all tasks.

    Args:
        pool: where its workers come from.
        tasks: taken from the left; more may be added between two outcomes. What failed comes again after all others.
        tries: how often a task is begun at most, be it that it fails or that its worker dies.

    Yields:
        One outcome for each task, in the order in which they are finished.

    Raises:
        EdgesegError: a worker cannot open what it needs, or too many die before they have.
    """
    again: deque[tuple[Task, int]] = deque()
    coming: dict[Future[tuple[str, str]], Worker] = {}
    idle: list[tuple[Worker, str]] = []
    busy: dict[Future[tuple[Any, str]], tuple[Worker, str, Task, int]] = {}
    failed_starts = 0

    def start_worker() -> None:
        worker = pool.start_worker()
        coming[worker.ready] = worker

    try:
        for _ in range(pool.count):
            start_worker()
        while tasks or again or busy:
            while idle and (tasks or again):
                worker, node = idle.pop()
                task, tried = (tasks.popleft(), 0) if tasks else again.popleft()
                busy[worker.start(task)] = worker, node, task, tried + 1
            for future in wait([*coming, *busy], return_when=FIRST_COMPLETED).done:
                dead = future.exception()
                if future in coming:
                    failed_starts = _failed_starts(future, failed_starts, pool.count)
                    worker = coming.pop(future)
                    node = "" if dead else future.result()[0]
                else:
                    worker, node, task, tried = busy.pop(future)
                    value, error = (None, f"its worker died: {_in_short(dead)}") if dead else future.result()
                    if error and tried < tries:
                        again.append((task, tried))
                    else:
                        yield Outcome(task, value, error, tried, node)
                if dead:
                    worker.end()
                    start_worker()
                else:
                    idle.append((worker, node))
    finally:
        for worker in (*coming.values(), *(worker for worker, _ in idle), *(work[0] for work in busy.values())):
            worker.end()


def in_order(pool: Pool, tasks: Sequence[Any]) -> Iterator[Any]:
    """What the work makes of each task, in the order of the tasks.

    Raises:
        Incomplete: one failed, for as often as it was tried.
        EdgesegError: as `spread` does.
    """
    places = {id(task): place for place, task in enumerate(tasks)}
    assert len(places) == len(tasks), "tasks are told apart by their identity"
    early: dict[int, Any] = {}
    following = 0
    for outcome in spread(pool, deque(tasks)):
        if outcome.error:
            raise Incomplete(f"a part of the work failed on {outcome.node}: {outcome.error}; nothing of it is kept")
        early[places[id(outcome.task)]] = outcome.value
        while following in early:
            yield early.pop(following)
            following += 1


def _failed_starts(ready: Future[tuple[str, str]], failed_starts: int, count: int) -> int:
    """How many workers in a row have died before they were ready; raises where one says why, or after too many."""
    if dead := ready.exception():
        if failed_starts + 1 > TRIES * count:
            raise Incomplete(f"{failed_starts + 1} workers ended before they were ready ({_in_short(dead)}); what "
                             "was finished before is kept")
        return failed_starts + 1
    node, error = ready.result()
    if error:
        raise Incomplete(f"a worker on {node} could not start: {error}")
    return 0


def attempt(work: Work, task: Any) -> tuple[Any, str]:
    """What `work` makes of a task and "", or None and why not, in one line. A failed task is not a failed worker."""
    try:
        return work(task), ""
    except (EdgesegError, OSError) as error:
        return None, _in_short(error)
    except Exception as error:  # a bug, or a library's: reported with its place, and the others continue
        place = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {_in_short(error)} ({os.path.basename(place.filename)}:{place.lineno})"


def opened(opening: Opening) -> tuple[Work | None, str]:
    """As `attempt`, of what a worker does first."""
    return attempt(lambda _: opening(), None)


def _in_short(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


class Processes:
    """Workers that are processes of this machine.

    Args:
        opening: what each does first.
        count: how many.
    """

    def __init__(self, opening: Opening, count: int) -> None:
        self.count = count
        self._opening = opening

    def start_worker(self) -> Worker:
        """Start a process."""
        return _Process(self._opening)


class _Process:
    """A process, and a thread that waits for its answers."""

    def __init__(self, opening: Opening) -> None:
        # Spawned, not forked: engines have threads, and a child that inherits other children's pipes would never see
        # the end of its own when this process is killed.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(opening, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.ready: Future[tuple[str, str]] = self._answer()

    def start(self, task: Any) -> Future[tuple[Any, str]]:
        with suppress(OSError):  # it has died; the answer says so
            self._pipe.send(task)
        return self._answer()

    def _answer(self) -> Future[Any]:
        future: Future[Any] = Future()

        def receive() -> None:
            try:
                future.set_result(self._pipe.recv())
            except (EOFError, OSError):
                self._process.join(_TIMEOUT_S)
                future.set_exception(Incomplete(f"its process ended with code {self._process.exitcode}"))

        threading.Thread(target=receive, daemon=True).start()
        return future

    def end(self) -> None:
        self._process.terminate()
        self._process.join(_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(opening: Opening, pipe: Connection) -> None:
    """The process: open, then answer until the pipe ends, or SIGTERM comes. Ctrl-C is for the one who started us."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            work, error = opened(opening)
            pipe.send((platform.node(), error))
            while work:
                pipe.send(attempt(work, pipe.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
