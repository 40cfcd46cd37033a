"""Items in, a manifest out: who still needs what, what came back, and what a person sees meanwhile."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from runtime import cli
from runtime.batch.cut import Segment
from runtime.batch.items import Item
from runtime.batch.manifest import Manifest, ManifestRow
from runtime.batch.store import store_at
from runtime.batch.worker import BatchJob, Cut, SegmentRecord
from runtime.workers import Outcome, Pool, spread

_BETWEEN_LINES_S = 30.0
"""How often progress is reported where there is no terminal."""


@dataclass
class _Progress:
    """What is known of an item.

    Attributes:
        segments: how many it has; 0 until it is cut.
        records: of the finished ones.
        reasons: why others failed.
    """

    segments: int = 0
    records: list[SegmentRecord] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return len(self.records) + len(self.reasons) >= self.segments

    @property
    def share(self) -> float:
        """How much of it is over, 0..1."""
        return (len(self.records) + len(self.reasons)) / max(self.segments, 1)


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        items: how many there are.
        skipped: of them, how many an earlier run had finished.
        failed: rows of those that failed.
        frames: segmented by this run.
        seconds: it took.
        nodes: the machines that worked.
    """

    items: int
    skipped: int
    failed: tuple[ManifestRow, ...]
    frames: int
    seconds: float
    nodes: tuple[str, ...]


class Driver:
    """One run. Everything that is finished is in the output's store before the next thing is begun.

    Args:
        items: what is to be done.
        job: as the workers have it.
        sha256: of the artifact.
        classes: its class names.
    """

    def __init__(self, items: Sequence[Item], job: BatchJob, sha256: str, classes: Sequence[str]) -> None:
        self._job, self._sha256, self._classes = job, sha256, classes
        self._store = store_at(job.out)
        self._manifest = Manifest(self._store)
        self._items = items
        self._left = [item for item in items if not self._is_done(item)]
        self._state = {item: _Progress() for item in self._left}
        self._over = len(items) - len(self._left)
        self._failed: list[ManifestRow] = []
        self._frames = 0
        self._start = self._told = monotonic()

    def _is_done(self, item: Item) -> bool:
        row = self._manifest.rows.get(item.name)
        return row is not None and row.status == "done" and row.key == self._job.key(item)

    def run(self, pool: Pool, tries: int) -> Summary:
        """Do what is left.

        Raises:
            EdgesegError: as `spread` does; what was finished before is kept.
        """
        tasks: deque[Item | Segment] = deque(self._left)
        nodes: set[str] = set()
        try:
            for outcome in spread(pool, tasks, tries):
                nodes.add(outcome.node)
                self._take(outcome, tasks)
                self._tell()
        finally:
            cli.status("")
            self._manifest.write()
            for item, state in self._state.items():
                if state.segments:
                    self._store.tidy(item.name)
        return Summary(len(self._items), len(self._items) - len(self._left), tuple(self._failed), self._frames,
                       monotonic() - self._start, tuple(sorted(nodes)))

    def _take(self, outcome: Outcome[Item | Segment], tasks: deque[Item | Segment]) -> None:
        task = outcome.task
        item = task if isinstance(task, Item) else task.item
        state = self._state[item]
        if outcome.error:
            state.reasons.append(outcome.error)
        elif isinstance(outcome.value, Cut):
            state.records += outcome.value.finished
            state.segments = len(outcome.value.finished) + len(outcome.value.left)
            tasks.extendleft(reversed(outcome.value.left))  # so that items are finished one after the other
        else:
            state.records.append(outcome.value)
            self._frames += outcome.value.frames
        if state.over:
            self._finish(item, state)

    def _finish(self, item: Item, state: _Progress) -> None:
        self._over += 1
        pixels = sum((np.array(record.pixels) for record in state.records), np.zeros(len(self._classes), np.int64))
        shares = {name: float(count / max(pixels.sum(), 1)) for name, count in zip(self._classes, pixels)}
        row = ManifestRow(item.name, item.path, "failed" if state.reasons else "done",
                          "; ".join(dict.fromkeys(state.reasons)),
                          sum(record.frames for record in state.records), state.segments,
                          round(sum(record.seconds for record in state.records), 3), shares, self._sha256,
                          self._job.key(item))
        if state.reasons:
            self._failed.append(row)
        self._manifest.add(row)

    def _tell(self) -> None:
        """One line: on a terminal at once, into a log now and then."""
        now = monotonic()
        if sys.stderr.isatty():
            cli.status(self._line(now))
        elif now - self._told > _BETWEEN_LINES_S:
            self._told = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        seconds = now - self._start
        done = sum(state.share for state in self._state.values())
        left = f", {_clock(seconds * (len(self._state) - done) / done)} left" if done else ""
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return (f"{self._over}/{len(self._items)} items, {self._frames} frames, {self._frames / seconds:.1f} frames/s"
                f"{left}{failed}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
