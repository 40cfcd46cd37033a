"""An H.264 video that a power cut cannot take away: whatever was written up to a second before it plays.

While it is recorded, the file is a fragmented MP4, one fragment a frame: a player takes every whole one. When it is
finished, the same file becomes an ordinary MP4 by an index at its end and one changed header, in that order, so that it
plays at every moment in between (FFmpeg's `hybrid_fragmented`). Until then its name is hidden; `finish_unfinished`
gives one to what a kill or a power cut left.

PyAV binds FFmpeg's libraries. OpenCV's writer, which the base install has, can encode no H.264, and what it writes has
one constant frame rate and no index until the very end. PyAV's wheels (x86-64 and aarch64 Linux, macOS) are 36 MB,
104 MB installed, and hold x264, so that together they are under the GPL (PyAV itself is BSD-3-Clause): an extra,
`record`, and no part of a device that only shows or counts. Where PyAV was built over another FFmpeg, OpenH264 will do.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2

from runtime.errors import MissingLibrary, UserError
from runtime.files import check_writable, left_unfinished, unfinished
from runtime.preprocess import Frame
from runtime.signals import Held

log = logging.getLogger(__name__)

ENCODERS = ("libx264", "libopenh264")
CUT_SHORT = "cut-short"
"""What the name of a recording says that was finished on a later start."""

_FLAGS = "hybrid_fragmented+frag_every_frame+empty_moov+default_base_moof"
_CLOCK = 90_000  # ticks a second, as MPEG counts
_SYNC_S = 0.5
_LOW_DISK_BYTES = 8 << 20
_BT709 = 1  # in FFmpeg's numbering of matrices, primaries and transfer functions
_STUDIO_RANGE = 1


class Recording:
    """One mp4 under construction; use as a context manager. An error in the body still finishes the file.

    Args:
        path: the file's final name, ending in .mp4.
        fps: frames per second to expect, for the encoder; each frame has its own time all the same.

    Attributes:
        frames: written so far.

    Raises:
        UserError: the name cannot be written, or there is no H.264 encoder.
    """

    def __init__(self, path: Path, fps: float = 0.0) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"cannot write {path}; expected a name ending in .mp4", try_=f"{path.with_suffix('.mp4')}")
        check_writable(path)
        self.path = path
        self.frames = 0
        self._encoder = encoder()
        self._fps = fps if 1 <= fps < 1000 else 25.0  # as sources.NOMINAL_FPS
        self._temporary = unfinished(path)
        self._container: Any = None
        self._first_s = 0.0
        self._last = -1

    @property
    def bytes(self) -> int:
        """On the disk so far."""
        return self._temporary.stat().st_size if self._container else 0

    def write(self, picture: Frame, seconds: float) -> None:
        """Append a frame.

        Args:
            picture: uint8 [H, W, 3] BGR; the first one decides the size, later ones are brought to it.
            seconds: when it was taken, by any clock; one that stands still or goes back counts as one tick later.

        Raises:
            UserError: the encoder refuses the size, or the disk is full; what was written so far is kept.
        """
        import av

        if self._container is None:
            self._open(picture, seconds)
        if self.frames % round(self._fps) == 0 and shutil.disk_usage(self.path.parent).free < _LOW_DISK_BYTES:
            raise UserError(f"the disk of {self.path} is full; the {self.frames} frames so far are kept",
                            try_="--save elsewhere.mp4")
        size = (self._stream.width, self._stream.height)
        if (picture.shape[1], picture.shape[0]) != size:
            picture = cv2.resize(picture, size)  # type: ignore[assignment]
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(
            format=self._stream.pix_fmt, dst_colorspace=_BT709, dst_color_range=_STUDIO_RANGE)
        self._last = max(self._last + 1, round((seconds - self._first_s) * _CLOCK))
        frame.pts, frame.time_base = self._last, Fraction(1, _CLOCK)
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise UserError(f"cannot continue writing {self.path} ({error.strerror}); is the disk full? The "
                            f"{self.frames} frames so far are kept", try_="--save on another disk") from error
        self.frames += 1

    def _open(self, picture: Frame, seconds: float) -> None:
        import av

        height, width = picture.shape[:2]
        even = height % 2 == 0 and width % 2 == 0
        container = av.open(os.fspath(self._temporary), "w", format="mp4", options={
            "movflags": _FLAGS, "flush_packets": "1"})
        stream: Any = container.add_stream(self._encoder, rate=Fraction(self._fps).limit_denominator(1000), options={
            "preset": "veryfast", "tune": "zerolatency"} if self._encoder == "libx264" else {})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if even else "yuv444p"  # 4:2:0 has one colour for 2x2 pixels, and no odd sizes
        context = stream.codec_context
        context.time_base, context.gop_size = Fraction(1, _CLOCK), round(self._fps)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _STUDIO_RANGE
        try:
            container.start_encoding()
        except (OSError, ValueError) as error:
            container.close()
            self._temporary.unlink(missing_ok=True)
            raise UserError(f"cannot write {self.path} at {height}x{width} ({error}); expected a size that "
                            f"{self._encoder} takes", try_="--masks DIR") from error
        if not even:
            log.warning("%s is %dx%d: odd sizes are kept by 4:4:4 colour, which Safari and hardware players may refuse",
                        self.path, height, width)
        self._container, self._stream, self._first_s = container, stream, seconds
        self._file = os.open(self._temporary, os.O_RDWR)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # ends with this process, however that ends
        self._closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync, name="edgeseg sync", daemon=True)
        self._syncing.start()

    def _sync(self) -> None:
        """See that what is written reaches the disk; a thread of its own, as a memory card may take its time."""
        while not self._closed.wait(_SYNC_S):
            os.fsync(self._file)

    def finish(self) -> None:
        """Close the file and give it its name. A second call does nothing.

        Raises:
            UserError: its end could not be written (a full disk, usually); what was written before is kept.
        """
        if self._container is None:
            return
        with Held():
            container, self._container = self._container, None
            broken = None
            try:
                try:
                    container.mux(self._stream.encode())
                finally:
                    container.close()
            except OSError as error:
                broken = error
            self._closed.set()
            self._syncing.join()
            if broken:
                cut_to_whole_frames(self._temporary)
            os.fsync(self._file)
            os.close(self._file)
            if not plays(self._temporary):
                self._temporary.unlink()
                raise UserError(f"{self.path} holds no playable frame; is the disk full?",
                                try_="--save on another disk")
            self._temporary.replace(self.path)
        if broken:
            raise UserError(f"the end of {self.path} could not be written ({broken.strerror}); is the disk full? What "
                            "was written before is kept", try_="--save on another disk")

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self.finish()
        except UserError:
            if error is None:
                raise  # otherwise the first error says more


def encoder() -> str:
    """The name of the H.264 encoder that is here.

    Raises:
        UserError: PyAV is not installed, or has none.
    """
    try:
        import av
    except ImportError as error:
        raise MissingLibrary("av", "recording a video", "record") from error
    there = [name for name in ENCODERS if name in av.codecs_available]
    if not there:
        raise UserError(f"this PyAV ({av.__version__}) encodes no H.264; expected one with {' or '.join(ENCODERS)}",
                        try_="pip install --force-reinstall --only-binary av av")
    return there[0]


def plays(path: Path) -> bool:
    """Whether a video has a picture that can be decoded."""
    import av

    try:
        with av.open(os.fspath(path)) as container:
            return next(container.decode(video=0), None) is not None
    except (OSError, ValueError, IndexError):  # FFmpeg's errors are either of the first two; no stream is the third
        return False


def finish_unfinished(path: Path) -> list[Path]:
    """Give names to what recordings to `path`, or to its segments, left behind when they were cut off.

    Recordings that another process still works on are locked, and left to it. What has no whole frame is removed.

    Returns:
        The files that are whole now: `NAME-cut-short.mp4`, or `-cut-short-2` where that name is taken.
    """
    found = []
    for left, stem in left_unfinished(path.parent, rf"{re.escape(path.stem)}(?:-\d{{6}})?", ".mp4"):
        if not _in_use(left):
            cut_to_whole_frames(left)
            if plays(left):
                found.append(left.rename(next(_free_names(path.parent, f"{stem}-{CUT_SHORT}"))))
                log.warning("a recording had been cut off; what there was of it is finished as %s", found[-1])
            else:
                left.unlink()
    return found


def _in_use(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _free_names(folder: Path, stem: str) -> Iterator[Path]:
    names = [f"{stem}.mp4", *(f"{stem}-{number}.mp4" for number in range(2, 10_000))]
    return (folder / name for name in names if not (folder / name).exists())


def cut_to_whole_frames(path: Path) -> None:
    """Cut off what follows the last whole frame of a fragmented MP4 (ISO 14496-12: boxes of a length, a type, and that
    much content; a frame is a `moof` and the `mdat` after it)."""
    size, start, whole = path.stat().st_size, 0, 0
    with path.open("r+b") as file:
        while start + 8 <= size:
            file.seek(start)
            length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
            if length < 8 or start + length > size:  # torn, or what a file system puts where nothing was written
                break
            start += length
            if kind != b"moof":
                whole = start
        file.truncate(whole)
