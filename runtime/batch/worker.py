"""What a worker does: opens the artifact once, then cuts items and segments what it is given."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from runtime import decode
from runtime.batch.cut import Segment, segments_of, source_of
from runtime.batch.items import Item
from runtime.batch.masks import FORMATS
from runtime.batch.store import Store, store_at
from runtime.channel import Policy
from runtime.decode import Count
from runtime.errors import UserError
from runtime.parcel import Parcel
from runtime.segmenter import Segmenter
from runtime.sinks import Video
from runtime.stream import Stream
from runtime.video import quiet_opencv

RUN = "run.json"
"""What the output's root says about the run that writes there."""

Seconds = Annotated[float, Meta(ge=0)] | Count


@dataclass(frozen=True)
class BatchJob:
    """What all workers need to know.

    Attributes:
        artifact: a file that every worker can read, or one to bring with us.
        engine, threads: as in `Segmenter.open`.
        out: root of the output.
        masks: a key of `FORMATS`.
        video: whether to write overlays.
        every: as in `Stream`.
        least: frames of a segment, as in `segments_of`.
        identity: the same for all runs that may go on with each other's work; the text of the file `RUN`.
    """

    artifact: Path | Parcel
    engine: str | None
    threads: int | None
    out: str
    masks: str
    video: bool
    every: int
    least: int
    identity: str

    def key(self, item: Item) -> str:
        """Another one when anything that its masks depend on has changed."""
        return hashlib.sha256(f"{self.identity}\0{item.path}\0{item.version}\0{self.least}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SegmentRecord:
    """A finished segment; it is written last, and its being there is what "finished" means.

    Attributes:
        first: number of its first frame.
        frames: how many.
        seconds: that a worker took.
        pixels: of each class, over all frames.
    """

    first: Count
    frames: Count
    seconds: Seconds
    pixels: tuple[Count, ...]


@dataclass(frozen=True)
class Cut:
    """An item's segments: those that are finished, and those that are left."""

    finished: tuple[SegmentRecord, ...]
    left: tuple[Segment, ...]


def opened(job: BatchJob) -> Callable[[Item | Segment], Cut | SegmentRecord]:
    """A worker's function: items are cut, segments are segmented.

    Raises:
        UserError: the artifact cannot run here, or the output is not the folder of the machine that started it.
    """
    quiet_opencv()
    store = store_at(job.out)
    try:
        same = store.read(RUN).decode("utf-8") == job.identity
    except OSError:
        same = False
    if not same:
        raise UserError(f"{job.out} is not shared with this machine; expected a folder that all nodes share, or a URL",
                        try_="--out with a folder on a shared disk, or s3://…")
    path = job.artifact.unpacked() if isinstance(job.artifact, Parcel) else job.artifact
    segmenter = Segmenter.open(path, threads=job.threads, engine=job.engine)
    return lambda task: _cut(task, job, store) if isinstance(task, Item) else _segmented(task, job, store, segmenter)


def _cut(item: Item, job: BatchJob, store: Store) -> Cut:
    segments, key = segments_of(item, job.least), job.key(item)
    there = {name for name in store.names(f"{item.name}/done") if name.startswith(key)}
    if not there:
        store.clear(item.name)  # of another version of the source, whose frames might outnumber these
    finished = [s for s in segments if _record_name(s, key) in there]
    records = tuple(_read(store, f"{item.name}/done/{_record_name(s, key)}") for s in finished)
    return Cut(records, tuple(s for s in segments if s not in finished))


def _record_name(segment: Segment, key: str) -> str:
    return f"{key}-{segment.first:06d}.json"


def _read(store: Store, name: str) -> SegmentRecord:
    return decode.decoded(SegmentRecord, decode.parsed(store.read(name).decode("utf-8")))


def _segmented(segment: Segment, job: BatchJob, store: Store, segmenter: Segmenter) -> SegmentRecord:
    """Write a segment's masks, then its record."""
    start, folder, classes = perf_counter(), segment.item.name, segmenter.artifact.classes
    masks = FORMATS[job.masks](store, folder, segment.first, classes)
    total, frames = np.zeros(len(classes), np.int64), 0
    source = source_of(segment)
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as temporary:
        overlay = Path(temporary) / "overlay.mp4"
        sink = Video(overlay, source.fps, evenly=not source.fps) if job.video else None
        try:
            for result in Stream(segmenter, source, policy=Policy.EVERY, draw=job.video, every=job.every):
                pixels = np.bincount(result.mask.ravel(), minlength=len(classes))
                masks.write(segment.first + result.index, result.timestamp, result.mask, pixels.tolist())
                if sink:
                    sink.write(result)
                total += pixels
                frames += 1
        finally:
            if sink:
                sink.close()
        masks.finish()
        if job.video:
            store.write(f"{folder}/overlay-{segment.first:06d}.mp4", overlay.read_bytes())
    record = SegmentRecord(segment.first, frames, round(perf_counter() - start, 3), tuple(total.tolist()))
    name = f"{folder}/done/{_record_name(segment, job.key(segment.item))}"
    store.write(name, json.dumps(asdict(record)).encode())
    return record


def identity(sha256: str, **options: Any) -> str:
    """The text of the file `RUN`: what all masks of one output have in common."""
    return json.dumps({"format": 1, "artifact": sha256, **options}, indent=2) + "\n"
