"""Where results go: an mp4, PNG class maps, raw masks on stdout, a contact sheet, a window."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

import cv2

from runtime.errors import UserError
from runtime.overlay import ContactSheet
from runtime.result import StreamResult
from runtime.segments import Segments
from runtime.sources import NOMINAL_FPS
from runtime.video import write_png


class Enough(Exception):
    """The person at the window wants no more."""


class Sink(Protocol):
    """Takes results one by one. `close` is called once, also after an error, and leaves something valid or nothing."""

    def write(self, result: StreamResult) -> None:
        """Take one result."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class Video:
    """Overlays as an mp4, each at the time of its frame; see `runtime.recording` and `runtime.segments`.

    Args:
        path, fps, minutes, keep_bytes: as in `Segments`.
        evenly: whether frames follow each other at `NOMINAL_FPS`, where their times say only how fast we were.
    """

    def __init__(self, path: Path, fps: float = 0.0, *, minutes: float | None = None, keep_bytes: int | None = None,
                 evenly: bool = False) -> None:
        self._file = Segments(path, fps, minutes=minutes, keep_bytes=keep_bytes)
        self._evenly = evenly

    def write(self, result: StreamResult) -> None:
        """Append the overlay."""
        assert result.overlay is not None
        self._file.write(result.overlay, result.index / NOMINAL_FPS if self._evenly else result.timestamp)

    def close(self) -> None:
        """Finish the file; see `Recording.finish`."""
        self._file.finish()


class Pngs:
    """Class maps as `000000.png`, ... in a folder, which is made if need be; the number is the frame's index."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def write(self, result: StreamResult) -> None:
        """Write one file."""
        write_png(self._folder / f"{result.index:06d}.png", result.mask)

    def close(self) -> None:
        """Nothing is open."""


class RawMasks:
    """Class maps as H·W bytes each, one after the other."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer

    def write(self, result: StreamResult) -> None:
        """Write and flush, because the other end of the pipe is waiting."""
        self._stream.write(result.mask.data)
        self._stream.flush()

    def close(self) -> None:
        """The stream is not ours."""


class Sheet:
    """A dozen overlays, evenly spread, as one PNG."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sheet = ContactSheet()

    def write(self, result: StreamResult) -> None:
        """Offer the overlay."""
        assert result.overlay is not None
        self._sheet.add(result.overlay)

    def close(self) -> None:
        """Draw and write it, if there was any frame."""
        if self._sheet.seen:
            write_png(self._path, self._sheet.draw())


class Window:
    """Overlays in a window; q or Esc raises `Enough`. Must be used from the main thread."""

    def __init__(self) -> None:
        if not display():
            raise UserError("--show needs a display, and this machine has none", try_="--save FILE.mp4 or --serve 8000")

    def write(self, result: StreamResult) -> None:
        """Show the overlay."""
        assert result.overlay is not None
        try:
            cv2.imshow("edgeseg", result.overlay)
            key = cv2.waitKey(1) & 0xFF
        except cv2.error as error:
            raise UserError(f"this OpenCV cannot open a window ({error.err})", try_="--save FILE.mp4") from error
        if key in (ord("q"), 27):
            raise Enough

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


def display() -> bool:
    """Whether there is a screen. Without one, Qt inside OpenCV would abort the whole process."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
