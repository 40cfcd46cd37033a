"""Ctrl-C and SIGTERM, which systemd and Docker send: an ordinary end, at a moment that suits the work.

Python runs a signal's handler between any two of its instructions, so an exception from there may fall between writing
a frame and counting it. Where two steps belong together, `Held` puts the signal off until both are done.
"""

from __future__ import annotations

import _thread
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType, TracebackType
from typing import Any

from runtime.errors import Stopped

ENDINGS = (signal.SIGINT, signal.SIGTERM)

_TIMEOUT_S = 3.0
"""So long a command may take to end before a further signal breaks that off too."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM raise `Stopped` in the main thread; those that follow let it end in peace.

    What a parent process ignores on purpose (nohup, a shell's background job) stays ignored. Outside of the main
    thread, where Python sets no handlers, this does nothing.
    """
    stopped_at = -math.inf
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped_at
        if monotonic() - stopped_at >= _TIMEOUT_S:
            stopped_at = monotonic()
            stopped.append(number)
            raise Stopped(number)

    main = threading.current_thread() is threading.main_thread()
    heard = [number for number in ENDINGS if main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield
    except Exception as error:
        if stopped:  # libraries in C turn what breaks off their import into an ImportError
            raise Stopped(stopped[0]) from error
        raise
    finally:
        stopped_at = math.inf  # whatever comes from here on is for the handlers of before
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_handlers() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM that a library replaces in the block, as Ray does when it is started.

    Raises:
        Stopped: a handler of the library's ended the program.
    """
    before = {number: signal.getsignal(number) for number in ENDINGS}
    try:
        yield
    except SystemExit as error:
        raise Stopped(signal.SIGTERM) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


class Held:
    """Puts Ctrl-C and SIGTERM off until the block has ended; then the first that came is delivered, whoever handles it.

    with Held() as hold:
        with hold.lifted():
            ...  # may be broken off anywhere
        hold.then(queue.close)  # wakes whoever waits below, so that the block can end early
        ...  # is not broken off, whenever the signal comes

    Args:
        timeout_s: when one has waited for this long, the next one is delivered at once: the block is stuck.
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._came: list[tuple[int, float]] = []
        self._then: Callable[[], object] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Held:
        self._hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._let_go()

    def __bool__(self) -> bool:
        """Whether a signal is being put off."""
        return bool(self._came)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let signals break this part of the block off, also those that came before it."""
        self._let_go()
        try:
            yield
        finally:
            self._hold()

    def then(self, wake: Callable[[], object]) -> None:
        """Call `wake` when a signal comes, or came already: in another thread, as this one may hold any lock."""
        self._then = wake
        if self._came:
            wake()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = monotonic()
        if self._came and now - self._came[0][1] >= self._timeout_s:
            self._let_go()
        self._came.append((number, now))
        if self._then and len(self._came) == 1:
            _thread.start_new_thread(self._then, ())  # not threading's, which takes a lock that this thread may hold

    def _hold(self) -> None:
        # SIGINT is the first to be held and the last to be let go: it is the one that raises in programs not of ours.
        if threading.current_thread() is threading.main_thread():  # others never run a handler
            self._before = {number: signal.signal(number, self._note) for number in ENDINGS}

    def _let_go(self) -> None:
        for number, handler in reversed(self._before.items()):
            signal.signal(number, handler)
        came, self._came = self._came, []
        for number, _ in came[:1]:
            signal.raise_signal(number)
