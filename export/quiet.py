"""Converters talk much of themselves and end in tracebacks; users need the one line that says what is wrong."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import EdgesegError, UserError
from runtime.signals import Held


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what the converter and its imports say about themselves off the user's screen. Some of it is C++, which
    writes to the file descriptor; what matters comes as an exception."""
    sys.stderr.flush()
    shown = os.dup(2)
    try:
        with tempfile.TemporaryFile() as aside:
            os.dup2(aside.fileno(), 2)
            yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)


ONNX = "python -m export.onnx with the same words, as its converter knows the most operators"
"""Where to go when another converter refuses a network."""


@contextmanager
def refusing(converter: str, network: str, *, expected: str = "operators that it knows",
             try_: str = ONNX) -> Iterator[None]:
    """Say in one line what a converter refuses; what converters raise has no public base class.

    Ctrl-C and SIGTERM are put off until it has ended: torch's tracing goes from C++ back into Python, and an exception
    that rises there can abort the process.

    Raises:
        UserError: with the first line of what lies at the bottom of the converter's own errors.
    """
    try:
        with Held():
            yield
    except (EdgesegError, OSError, MemoryError):
        raise
    except Exception as error:
        bottom: BaseException = error
        while bottom.__cause__ is not None:
            bottom = bottom.__cause__
        raise UserError(f"{converter} refuses {network} ({reason(bottom)}); expected {expected}", try_=try_) from error


def reason(error: BaseException) -> str:
    """The first line of an error that is not ours; its type too, where the words are a bare key or missing."""
    line = next(iter(str(error).strip().splitlines()), "")[:200]
    return line if line and not isinstance(error, KeyError) else f"{type(error).__name__} {line}".strip()
