"""An item in segments, so that one long video is the work of many; and a segment's frames, each exactly once.

A segment of a video begins at a key frame. Where that is and which number each frame has comes from the packets' times,
without decoding. A decoder sorts frames by time, so a segment's frames are those from its first time up to the next
segment's: frames that a packet after the next key frame carries and that are shown before it (an open group of
pictures) belong to the segment before, which therefore decodes on until a later frame comes out.

PyAV rather than OpenCV, whose seeking is by frame number and lands elsewhere in some files; the pixels are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

from runtime.batch.items import Item
from runtime.batch.store import store_at
from runtime.errors import Incomplete, MissingLibrary, UserError
from runtime.sources import NOMINAL_FPS, Shot, Source
from runtime.video import image_from_bytes

if TYPE_CHECKING:
    from runtime.preprocess import Frame


@dataclass(frozen=True)
class Segment:
    """Some frames of an item, in a row.

    Attributes:
        item: which.
        first: the number of the first frame in its item.
        frames: how many there are.
        seek: where a decoder begins, in ticks of the video's clock; None for its beginning.
        begin: the first frame's time, in ticks; None for whatever comes first.
        end: the next segment's first time, in ticks; None where there is none.
    """

    item: Item
    first: int
    frames: int
    seek: int | None = None
    begin: int | None = None
    end: int | None = None


def segments_of(item: Item, least: int) -> tuple[Segment, ...]:
    """Cut an item.

    Args:
        item: a video or a folder of images.
        least: frames; a segment ends where the next key frame after so many is, a folder's after exactly so many.

    Raises:
        UserError, Incomplete: the video cannot be read, or not to its end.
    """
    if item.images:
        count = len(item.images)
        return tuple(Segment(item, first, min(least, count - first)) for first in range(0, count, least))
    with _Video(item) as video:
        return _cut(item, video.packets(), least)


def _cut(item: Item, packets: list[tuple[int | None, int | None, bool]], least: int) -> tuple[Segment, ...]:
    """Args: packets: (time shown, time decoded, whether a key frame) of each frame, as they lie in the file."""
    times = sorted(pts for pts, _, _ in packets if pts is not None)
    if len(set(times)) < len(packets):
        return (Segment(item, 0, len(packets)),)  # frames without times of their own can only be counted from the start
    numbers = {pts: number for number, pts in enumerate(times)}
    starts: list[tuple[int, int | None, int | None]] = [(0, None, None)]
    for pts, dts, key in packets:
        if key and pts is not None and numbers[pts] - starts[-1][0] >= least:
            starts.append((numbers[pts], pts if dts is None else dts, pts))
    ends = [*starts[1:], (len(times), None, None)]
    return tuple(Segment(item, first, following - first, seek, begin, end)
                 for (first, seek, begin), (following, _, end) in zip(starts, ends))


def source_of(segment: Segment) -> Source:
    """A segment's frames, for a `Stream`; times count from the item's beginning.

    Raises:
        UserError: the item cannot be opened. The frames raise Incomplete where some are missing.
    """
    item = segment.item
    if item.images:
        return Source(item.path, 0, segment.frames, False, _images(segment))
    video = _Video(item)
    return Source(item.path, video.fps, segment.frames, False, _shots(segment, video))


def _images(segment: Segment) -> Iterator[Shot]:
    store = store_at(segment.item.root)
    for number in range(segment.first, segment.first + segment.frames):
        name = segment.item.images[number]
        yield Shot(image_from_bytes(store.read(name), name), number / NOMINAL_FPS)


def _shots(segment: Segment, video: _Video) -> Iterator[Shot]:
    count = 0
    with video:
        for picture in video.decoded(segment.seek):
            if segment.begin is not None and picture.pts < segment.begin:
                continue
            if segment.end is not None and picture.pts >= segment.end:
                break
            seconds = video.seconds(picture.pts, segment.first + count)
            yield Shot(_upright(picture), seconds)
            count += 1
    if count != segment.frames:
        raise Incomplete(f"{segment.item.name}: {count} of the {segment.frames} frames from {segment.first} on could "
                         "be decoded; expected an undamaged video of which each packet is a frame")


def _upright(picture: Any) -> Frame:
    """uint8 [H, W, 3] BGR, turned as the file asks for; phones film sideways."""
    import numpy as np

    return np.ascontiguousarray(np.rot90(picture.to_ndarray(format="bgr24"), k=picture.rotation // 90))


class _Video:
    """A video's packets and frames. Use it as a context manager."""

    def __init__(self, item: Item) -> None:
        try:
            import av
        except ImportError as error:
            raise MissingLibrary("av", "cutting videos at key frames", "batch") from error

        self._item = item
        self._file: str | IO[bytes] = store_at(item.root).open(item.name)
        try:
            self._container: Any = av.open(self._file)
            self._stream: Any = self._container.streams.video[0]
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f"{item.name} cannot be read as a video ({error}); expected one that FFmpeg decodes",
                            try_=f"ls -l {item.path}, or play it") from error
        self._stream.codec_context.thread_count = 1  # the other cores have segments of their own

    @property
    def fps(self) -> float:
        """0 where the file states none."""
        rate: Fraction | None = self._stream.average_rate
        return float(rate or 0)

    def seconds(self, pts: int | None, number: int) -> float:
        """Media time of a frame since the first one; by its number where it has no time."""
        if pts is None:
            return number / (self.fps or NOMINAL_FPS)
        return float((pts - (self._stream.start_time or 0)) * self._stream.time_base)

    def packets(self) -> list[tuple[int | None, int | None, bool]]:
        """(time shown, time decoded, whether a key frame) of every frame."""
        found = [(packet.pts, packet.dts, packet.is_keyframe) for packet in self._container.demux(self._stream)
                 if packet.size and not packet.is_discard]
        stated = self._stream.frames
        if not found or len(found) < stated - max(2, stated // 100):  # as runtime.sources judges a file
            raise Incomplete(f"{self._item.name} breaks off after {len(found)} of its {stated} frames; expected a "
                             "complete video")
        return found

    def decoded(self, seek: int | None) -> Iterator[Any]:
        """PyAV's frames in the order in which they are shown, from the key frame at `seek` on."""
        if seek is not None:
            self._container.seek(seek, stream=self._stream)
        try:
            yield from self._container.decode(self._stream)
        except (OSError, ValueError) as error:
            raise Incomplete(f"{self._item.name} cannot be decoded further ({error}); expected an undamaged video"
                             ) from error

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()
        if not isinstance(self._file, str):
            self._file.close()
