"""Where frames come from: cameras, streams, GStreamer pipelines, video files, images, raw bytes on stdin."""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import cv2
import numpy as np

from runtime.errors import Incomplete, UserError
from runtime.preprocess import Frame
from runtime.video import IMAGES, image_paths, read_image

log = logging.getLogger(__name__)

NOMINAL_FPS = 25.0
"""For frames whose source states no rate."""

RECONNECT_S = 60.0
"""How long a camera may be away before its stream is given up."""
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 8.0
_NETWORK_TIMEOUT_MS = 10_000
_LOOK_UP_S = 0.2


class Shot(NamedTuple):
    """A frame and when it was taken.

    Attributes:
        image: uint8 [H, W, 3] BGR.
        seconds: since the beginning: media time for a video, time of arrival for a camera or a pipe, and for images,
            which have none, their number at `NOMINAL_FPS`.
    """

    image: Frame
    seconds: float


@dataclass(frozen=True)
class Source:
    """Frames in order.

    Attributes:
        name: what was asked for.
        fps: frames per second as the source states it; 0 where it does not (images).
        count: number of frames as the source states it; 0 when unknown (cameras, streams).
        live: whether frames come by themselves, so that one not taken in time is stale.
        shots: the frames. Raises Incomplete when the source breaks off before its stated end.
        closed: set it to end a wait for a camera that is away.
    """

    name: str
    fps: float
    count: int
    live: bool
    shots: Iterator[Shot]
    closed: threading.Event = field(default_factory=threading.Event)


def open_source(text: str, size: tuple[int, int] | None = None) -> Source:
    """Open whatever `text` names.

    Args:
        text: a camera index, a V4L2 device, an RTSP/HTTP address, a GStreamer pipeline (recognised by its "!"), a
            folder of images, an image, a video file, or "-" for raw BGR frames on stdin.
        size: (H, W) of raw frames; for a camera, the size to ask it for.

    Raises:
        UserError: nothing there that can be read.
    """
    path = Path(text)
    if text == "-":
        if size is None:
            raise UserError("raw frames on stdin do not state their size", try_="--source - --size 720x1280")
        return _raw(sys.stdin.fileno(), *size)
    if text.isdecimal():
        return _camera(f"camera {text}", int(text), size)
    if "!" in text and not path.exists():
        return _gstreamer(text)
    if "://" in text:
        return _address(text)
    if path.is_dir():
        paths = image_paths(path)
        return Source(text, 0, len(paths), False, _images(paths))
    if not path.exists():
        raise UserError(f"source {text} does not exist; expected a camera index, an address, a folder of images, "
                        "an image or a video", try_="--source 0 for the first camera")
    if stat.S_ISCHR(path.stat().st_mode):
        return _camera(text, text, size)
    if path.suffix.lower() in IMAGES:
        return Source(text, 0, 1, False, _images([path]))
    return _file(text, cv2.VideoCapture(os.fspath(path)))


def from_frames(frames: Iterable[Frame], name: str = "frames") -> Source:
    """Frames that a program makes itself, uint8 [H, W, 3] BGR, as a source."""
    return Source(name, 0, 0, False, (Shot(frame, number / NOMINAL_FPS) for number, frame in enumerate(frames)))


def paced(source: Source) -> Iterator[Shot]:
    """A file's frames at the rate it states, as a camera delivers them."""
    interval, start = 1 / (source.fps or NOMINAL_FPS), monotonic()
    for number, shot in enumerate(source.shots):
        if source.closed.wait(max(start + number * interval - monotonic(), 0)):
            return
        yield shot


def as_bgr(image: np.ndarray[Any, Any]) -> Frame:
    """Whatever a decoder returns as uint8 [H, W, 3] BGR: gray is repeated, alpha dropped, deep colour cut to 8 bits.

    Args:
        image: uint8 or uint16 [H, W] or [H, W, 1, 3 or 4].
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return np.asarray(image, dtype=np.uint8)


def _images(paths: list[Path]) -> Iterator[Shot]:
    """The first image is read at once, so that a folder of rubbish is refused before anything else happens."""
    first = read_image(paths[0])

    def shots() -> Iterator[Shot]:
        yield Shot(first, 0.0)
        for number, path in enumerate(paths[1:], 1):
            try:
                image = read_image(path)
            except UserError as error:
                raise Incomplete(f"{error}; the {number} images before it are done") from error
            yield Shot(image, number / NOMINAL_FPS)

    return shots()


def _raw(file: int, height: int, width: int) -> Source:
    """Frames of H·W·3 bytes, one after the other, until the descriptor's end."""
    closed = threading.Event()

    def shots() -> Iterator[Shot]:
        """As they arrive; timestamps count from the first wait on."""
        number, start = 0, monotonic()
        while True:
            frame = np.empty((height, width, 3), dtype=np.uint8)
            read = _fill(file, frame.data.cast("B"), closed)
            if closed.is_set() or not read:
                return
            if read < frame.size:
                raise Incomplete(f"stdin ended {read} bytes into frame {number}; expected {frame.size} bytes for each "
                                 f"frame of {height}x{width}; the frames before it are done")
            yield Shot(frame, monotonic() - start)
            number += 1

    return Source("stdin", 0, 0, False, shots(), closed)


def _fill(file: int, buffer: memoryview, closed: threading.Event) -> int:
    """Read until the buffer is full or the file ends, and look up now and then: a pipe may stay silent for ever.

    Not through sys.stdin, whose lock a thread that is left behind would hold when Python exits.
    """
    read = 0
    while read < len(buffer) and not closed.is_set():
        if os.name == "posix" and not select.select([file], [], [], _LOOK_UP_S)[0]:
            continue
        if not (data := os.read(file, len(buffer) - read)):
            break
        buffer[read:read + len(data)] = data
        read += len(data)
    return read


def _file(name: str, capture: cv2.VideoCapture) -> Source:
    ok, first = capture.read() if capture.isOpened() else (False, None)
    if not ok or first is None:
        capture.release()
        raise UserError(f"{name} gives no frames; expected a complete video that OpenCV's FFmpeg can decode",
                        try_=f"ls -l {name}, or play it")
    fps, count = float(capture.get(cv2.CAP_PROP_FPS)), max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    return Source(name, fps, count, False, _until_the_end(name, capture, as_bgr(first), fps, count))


def _until_the_end(name: str, capture: cv2.VideoCapture, first: Frame, fps: float, count: int) -> Iterator[Shot]:
    """Yield every frame, and tell an end from a break.

    Containers miscount by a frame or two, and estimate where the frame rate varies. So a file is broken when both its
    frames and its time stop short; when only frames are missing, some in between could not be decoded.
    """
    read, seconds = 1, 0.0
    try:
        yield Shot(first, seconds)
        while (image := capture.read()[1]) is not None:
            read += 1
            seconds = max(seconds, capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
            yield Shot(as_bgr(image), seconds)
    finally:
        capture.release()
    slack = max(2, count // 100)
    if read < count - slack:
        if fps <= 0 or seconds * fps < count - 1 - slack:
            raise Incomplete(f"{name} breaks off after {read} of its {count} frames; the frames so far are kept")
        log.warning("%s: %d of %d frames were there to decode (damaged, or of variable frame rate)", name, read, count)


def _gstreamer(pipeline: str) -> Source:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise UserError(f"this OpenCV ({cv2.__version__}) was built without GStreamer, so the pipeline {pipeline!r} "
                        "cannot run", try_="an OpenCV built with GStreamer (JetPack has one), or --source with a "
                        "device or address")
    return _live(pipeline, lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER), "a pipeline that ends in appsink")


def _address(url: str) -> Source:
    def connect() -> cv2.VideoCapture:
        return cv2.VideoCapture(url, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _NETWORK_TIMEOUT_MS,
                                                      cv2.CAP_PROP_READ_TIMEOUT_MSEC, _NETWORK_TIMEOUT_MS])

    if url.startswith(("http://", "https://")):
        capture = connect()
        if capture.isOpened() and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
            return _file(url, capture)  # a video file that happens to lie on a server
        capture.release()
    return _live(url, connect, "a reachable stream")


def _camera(name: str, where: int | str, size: tuple[int, int] | None) -> Source:
    def connect() -> cv2.VideoCapture:
        capture = cv2.VideoCapture(where, cv2.CAP_V4L2) if isinstance(where, str) else cv2.VideoCapture(where)
        if size and capture.isOpened():
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[0])
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[1])
        return capture

    return _live(name, connect, "a connected camera that no other program uses", "ls /dev/video*")


def _live(name: str, connect: Callable[[], cv2.VideoCapture], expected: str, try_: str = "") -> Source:
    """Frames that come by themselves; opened at once, so that a wrong address is refused before anything happens."""
    capture = connect()
    first = capture.read()[1] if capture.isOpened() else None
    if first is None:
        capture.release()
        raise UserError(f"{name} gives no frames; expected {expected}", try_=try_)
    closed = threading.Event()
    return Source(name, float(capture.get(cv2.CAP_PROP_FPS)), 0, True,
                  _reconnecting(name, connect, capture, as_bgr(first), closed), closed)


def _reconnecting(name: str, connect: Callable[[], cv2.VideoCapture], capture: cv2.VideoCapture, first: Frame,
                  closed: threading.Event) -> Iterator[Shot]:
    """Yield frames; when they stop, connect again with growing pauses, and say so."""
    start, read = monotonic(), 0
    image: np.ndarray[Any, Any] | None = first
    try:
        while not closed.is_set():
            while image is not None:
                yield Shot(as_bgr(image), monotonic() - start)
                read += 1
                image = capture.read()[1]
            capture.release()
            log.warning("%s stopped after %d frames; connecting again", name, read)
            lost, delay = monotonic(), _FIRST_DELAY_S
            while image is None and not closed.wait(delay):
                if monotonic() - lost > RECONNECT_S:
                    raise Incomplete(f"{name} stopped after {read} frames and did not come back within "
                                     f"{RECONNECT_S:.0f} s; the frames so far are kept")
                delay = min(2 * delay, _LONGEST_DELAY_S)
                capture = connect()
                image = capture.read()[1] if capture.isOpened() else None
            if image is not None:
                log.warning("%s is back after %.1f s", name, monotonic() - lost)
    finally:
        capture.release()
