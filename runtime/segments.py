"""A long recording in pieces of some minutes, of which the oldest go when there is no more room for them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from runtime.preprocess import Frame
from runtime.recording import CUT_SHORT, Recording, finish_unfinished


class Segments:
    """`NAME-000001.mp4`, `NAME-000002.mp4`, …: numbers go on after those that are there, as a device's clock may not.

    Args:
        path: NAME.mp4.
        fps: as in `Recording`.
        minutes: length of a segment; None for a single file, `path` itself.
        keep_bytes: of all segments together, at most, give or take a frame; None for no end. A segment then ends at
            half of it, so that there is always an older one to delete.

    Raises:
        UserError: as `Recording` does.
    """

    def __init__(self, path: Path, fps: float = 0.0, *, minutes: float | None = None,
                 keep_bytes: int | None = None) -> None:
        assert minutes or not keep_bytes, "a single file has no older ones"
        self.path, self._fps, self._minutes, self._keep = path, fps, minutes, keep_bytes
        self._pattern = re.compile(rf"{re.escape(path.stem)}-(\d{{6}})(-{CUT_SHORT}(-\d+)?)?\.mp4")
        self._current = Recording(path, fps)  # refuses now what can never be written
        self._began_s = 0.0
        self._older_bytes = 0
        finish_unfinished(path)
        if minutes:
            self._current = self._next()

    def write(self, picture: Frame, seconds: float) -> None:
        """Append a frame; see `Recording.write`."""
        if self._minutes and self._current.frames and self._full(seconds):
            self._current.finish()
            self._current = self._next()
        if not self._current.frames:
            self._began_s = seconds
        self._current.write(picture, seconds)

    def finish(self) -> None:
        """Finish the last segment; see `Recording.finish`."""
        self._current.finish()

    def _full(self, seconds: float) -> bool:
        """Whether a new segment is due."""
        assert self._minutes
        if self._keep and self._older_bytes + self._current.bytes > self._keep:
            self._make_room(self._keep - self._current.bytes)
        return seconds - self._began_s >= 60 * self._minutes or (
            self._keep is not None and self._current.bytes > self._keep / 2)

    def _make_room(self, budget: int) -> None:
        """Delete the oldest segments until the rest fits."""
        sizes = {path: path.stat().st_size for path in self._there()}
        for path in list(sizes):
            if sum(sizes.values()) > budget:
                path.unlink()
                del sizes[path]
        self._older_bytes = sum(sizes.values())

    def _there(self) -> list[Path]:
        """Finished segments, oldest first."""
        return sorted(path for path in self.path.parent.iterdir() if self._pattern.fullmatch(path.name))

    def _next(self) -> Recording:
        numbers = [int(match[1]) for path in self._there() if (match := self._pattern.fullmatch(path.name))]
        number = 1 + max(numbers, default=0)
        self._make_room(self._keep or sys.maxsize)
        return Recording(self.path.with_name(f"{self.path.stem}-{number:06d}.mp4"), self._fps)
