"""Converters talk much of themselves; users need the one line that says what is wrong."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


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
