"""Every error that edgeseg raises on purpose, and the exit code it ends a command with.

    EdgesegError
    ├── UserError            2   the input cannot be used: what was received, what was expected, what to type next
    │   ├── MissingLibrary   2   an optional package is not installed: the extra that brings it
    │   └── BoardUnusable    2   a board is not reached, or full: nothing that is asked of it can be done
    ├── GateFailed           1   a verification gate did not hold; nothing was left behind
    ├── StageFailed          1   an engine, or a stage of a running stream, failed: which one, and at which frame
    └── Incomplete           1   the work broke off; what was finished before is kept and valid

    KeyboardInterrupt
    └── Stopped            130   Ctrl-C; 143 by SIGTERM, as systemd and Docker send it: finished files are kept and
                                 valid, unfinished ones removed, child processes ended; 128 + the signal's number, as
                                 a shell counts. A signal that comes before a command has begun ends it by itself.

Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import signal


class EdgesegError(Exception):
    """Base of all deliberate errors. `str(error)` is one line for a person: `what` and `try_` together.

    Args:
        what: what was received or happened, and what was expected, without a final full stop.
        try_: the next command to type, or the next thing to do; empty when there is none.
    """

    exit_code = 1

    def __init__(self, what: str, *, try_: str = "") -> None:
        super().__init__(f"{what}. Try: {try_}" if try_ else what)
        self.what, self.try_ = what, try_


class UserError(EdgesegError):
    """The command, a file or the machine cannot be used as asked."""

    exit_code = 2


class MissingLibrary(UserError):
    """An optional package is not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed",
                         try_=f"pip install 'edgeseg[{extra}]'")


class BoardUnusable(UserError):
    """A board is not reached, or has no room: whatever else is asked of it would fail too."""


class GateFailed(EdgesegError):
    """What arrived does not agree with what was sent."""


class StageFailed(EdgesegError):
    """An engine, or a stage of a running stream, failed; what was finished before is kept and valid."""


class Incomplete(EdgesegError):
    """The work stopped before its end; the part that was done is kept."""


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end. No `Exception`, so that no handler for errors catches it.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
