"""Picture files: images read and written, and an mp4 that plays however its writing ended."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.files import check_writable, in_one_piece, unfinished
from runtime.preprocess import Frame
from runtime.signals import Held

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""File endings that are read as still images."""

_LOW_DISK_BYTES = 8 << 20
_FRAMES_BETWEEN_DISK_CHECKS = 30


def quiet_opencv() -> None:
    """Keep OpenCV's and FFmpeg's own remarks off stderr; a command says in its own words what is wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def image_paths(folder: str | Path) -> list[Path]:
    """All images directly in `folder`, sorted by name.

    Raises:
        UserError: the folder does not exist or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a folder of images")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if not paths:
        raise UserError(f"{folder} holds no images; expected files ending in {', '.join(sorted(IMAGES))}",
                        try_=f"ls {folder}")
    return paths


def read_image(path: Path) -> Frame:
    """Read an image as uint8 [H, W, 3] BGR.

    Raises:
        UserError: the file is not an image that OpenCV can read.
    """
    data = np.fromfile(path, dtype=np.uint8)  # not cv2.imread, which cannot tell a missing file from a bad one
    frame = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if frame is None:
        raise UserError(f"{path} cannot be read as an image ({data.size} bytes); expected a complete JPEG, PNG, …")
    return np.asarray(frame, dtype=np.uint8)


class VideoFile:
    """An mp4 under construction. It gets its name when it is finished and has been reopened; use as a context manager.

    An error in the body still finishes the file, so that what was written plays; a file that does not play is removed.

    Args:
        path: the file's final name, ending in .mp4.
        fps: frames per second to state; 25 where the source does not know.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"cannot write {path}; expected a name ending in .mp4", try_=f"{path.with_suffix('.mp4')}")
        check_writable(path)
        self.path = path
        self.frames = 0
        self.fps = fps if 0 < fps < 1000 else 25.0  # as sources.NOMINAL_FPS
        self._temporary = unfinished(path)
        self._size = (0, 0)
        self._last: Frame | None = None
        self._writer: cv2.VideoWriter | None = None

    def write(self, picture: Frame) -> None:
        """Append uint8 [H, W, 3] BGR; the first picture decides the size, later ones are brought to it.

        Raises:
            UserError: the file cannot be opened, or the disk is nearly full.
        """
        if self._writer is None:
            self._size = (picture.shape[1], picture.shape[0])
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(os.fspath(self._temporary), fourcc, self.fps, self._size)
            if not writer.isOpened():
                self._temporary.unlink(missing_ok=True)
                raise UserError(f"cannot write {self.path} at {self._size[0]}x{self._size[1]}; "
                                "OpenCV's FFmpeg refuses it (size, permission or space)", try_="--masks DIR")
            self._writer = writer
        if self.frames % _FRAMES_BETWEEN_DISK_CHECKS == 0:
            free = shutil.disk_usage(self._temporary.parent).free
            if free < _LOW_DISK_BYTES:  # OpenCV would go on without a word
                raise UserError(f"the disk of {self.path} is full ({free >> 20} MiB free)", try_="--save elsewhere.mp4")
        if (picture.shape[1], picture.shape[0]) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        self._last = picture
        self.repeat()

    def repeat(self) -> None:
        """Append the last picture once more."""
        assert self._writer is not None
        assert self._last is not None
        self._writer.write(self._last)
        self.frames += 1

    def finish(self) -> None:
        """Close, reopen to see that it plays, and rename.

        Raises:
            UserError: what was written does not play (a full disk, usually); it has been removed.
        """
        if self._writer is None:
            return
        with Held(), in_one_piece(self.path) as temporary:
            self._writer.release()
            self._writer = None
            check = cv2.VideoCapture(os.fspath(temporary))
            written = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
            check.release()
            if written < self.frames:  # one more where an interruption fell between its writing and its counting
                raise UserError(f"{self.path} holds {written} of {self.frames} frames after writing; is the disk full?",
                                try_="--save on another disk")

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self.finish()
        except UserError:
            if error is None:
                raise  # otherwise the first error says more


def write_png(path: Path, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write uint8 [H, W] or [H, W, 3] BGR as PNG; atomic.

    Raises:
        OSError: the folder is missing or read-only, or the disk is full.
    """
    ok, data = cv2.imencode(".png", image)
    assert ok, f"OpenCV cannot encode {image.shape} {image.dtype}"
    with in_one_piece(path) as temporary:
        temporary.write_bytes(data.tobytes())
