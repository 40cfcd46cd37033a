"""How large each activation gets: streaming histograms over the calibration frames, cached and resumable."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe
from calibration.quantise.graph import FloatGraph
from runtime.cli import progress
from runtime.cluster import mapped
from runtime.errors import UserError
from runtime.files import in_one_piece

BINS = 2048
"""Bins of a histogram; when a value falls beyond the last, neighbours are merged and the width doubles."""

_FRAMES_BETWEEN_SAVES = 8


@dataclass(frozen=True)
class FrameMagnitudes:
    """A histogram of |x| for one tensor in one frame.

    Attributes:
        counts: int64 [BINS + 1]; the last is for values just below the end, which float32 rounds onto it.
        width: of a bin; 0 where all values are 0.
        lowest, highest: as in `Magnitudes`, of this frame.
    """

    counts: npt.NDArray[np.int64]
    width: float
    lowest: float
    highest: float

    @property
    def largest(self) -> float:
        """The largest |x|."""
        return max(-self.lowest, self.highest)


def counted(values: npt.NDArray[np.float32], base: float) -> FrameMagnitudes:
    """Count the values of one frame, all finite.

    Args:
        values: any shape.
        base: width of a bin; the bins are as wide as that, or 2, 4, 8, … times, so that all values fit, and where
            each falls does not depend on what other frames hold. 0 where this frame is to decide.
    """
    size = np.abs(values).ravel()
    lowest, highest = float(values.min(initial=0)), float(values.max(initial=0))
    top = max(-lowest, highest)
    if top == 0:
        return FrameMagnitudes(np.bincount(np.zeros(len(size), np.intp), minlength=BINS + 1), 0.0, 0.0, 0.0)
    width = base or top / BINS * (1 + 1e-6)
    while top >= width * BINS:
        width *= 2
    bins = (size * np.float32(1 / width)).astype(np.intp)
    return FrameMagnitudes(np.bincount(bins, minlength=BINS + 1), width, lowest, highest)


@dataclass
class Magnitudes:
    """A histogram of |x| for one tensor, and how far it reaches on either side of zero.

    Attributes:
        counts: int64 [BINS].
        width: of one bin; 0 until a value other than zero has been seen.
        lowest, highest: of its values, 0 included, which every range must represent.
    """

    counts: npt.NDArray[np.int64]
    width: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0

    @classmethod
    def empty(cls) -> Magnitudes:
        """Nothing seen yet."""
        return cls(np.zeros(BINS, np.int64))

    def fits(self, frame: FrameMagnitudes) -> bool:
        """Whether the bins of one are multiples of the other's, by powers of two."""
        return not (self.width and frame.width) or math.frexp(self.width)[0] == math.frexp(frame.width)[0]

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the values of one frame, all finite."""
        self.take(counted(values, self.width))

    def take(self, frame: FrameMagnitudes) -> None:
        """Take what was counted in one frame, in bins of this width, of one that divides it, or of none so far."""
        assert self.fits(frame)
        self.lowest = min(self.lowest, frame.lowest)
        self.highest = max(self.highest, frame.highest)
        self.width = self.width or frame.width
        while frame.largest >= self.width * BINS and frame.width:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.width *= 2
        counts, width = frame.counts, frame.width
        while width and width < self.width:
            counts = np.append(counts, 0).reshape(-1, 2).sum(1)
            counts = np.append(counts, np.zeros(BINS + 1 - len(counts), np.int64))
            width *= 2
        self.counts += counts[:BINS]
        self.counts[-1] += counts[BINS]

    @property
    def largest(self) -> float:
        """The largest |x| seen."""
        return max(-self.lowest, self.highest)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Float64 [BINS], the middle of each bin."""
        return np.asarray((np.arange(BINS) + 0.5) * self.width)


def check_finite(name: str, values: npt.NDArray[np.floating]) -> None:
    """Refuse what no range can be found for.

    Raises:
        UserError: a value is NaN or infinity.
    """
    if not np.isfinite(values).all():
        raise UserError(f"{name} holds NaN or infinity on a calibration frame; expected a network whose activations "
                        "are finite", try_="other weights, or a look at the images")


def collect(graph: FloatGraph, frames: Chosen, cache: Path, ray: str | None = None) -> dict[str, Magnitudes]:
    """Run the float graph on every frame and count the magnitudes of all its activations.

    Args:
        graph: the float graph.
        frames: the calibration frames.
        cache: folder where ranges are kept between runs, by the fingerprint of graph and frames. What an interrupted
            run had finished is taken up again.
        ray: the cluster to count on, which must see the frames' files; the ranges are the same to the last digit.

    Raises:
        UserError: an activation is infinite or not a number.
    """
    names = graph.float_tensors
    path = cache / f"ends-{_key(graph, frames)}.npz"
    done, found = _load(path, names)
    if done == len(frames.paths):
        return found
    count = _counter(graph, names, frames)
    tasks = ((index, [found[name].width for name in names]) for index in range(done, len(frames.paths)))
    first = map(count, islice(tasks, 1))  # whose bins those of all others are multiples of
    there = dataclasses.replace(frames, paths=tuple(path.absolute() for path in frames.paths))
    rest = mapped(ray, partial(_counter, graph, names, there), tasks) if ray else map(count, tasks)
    for index, counts in enumerate(progress(chain(first, rest), len(frames.paths) - done, "ranges"), done):
        if not all(found[name].fits(frame) for name, frame in zip(names, counts)):  # 0 throughout the first frame
            counts = count((index, [found[name].width for name in names]))
        for name, frame in zip(names, counts):
            found[name].take(frame)
        if (index + 1) % _FRAMES_BETWEEN_SAVES == 0 or index + 1 == len(frames.paths):
            _save(path, index + 1, found)
    return found


def _counter(graph: FloatGraph, names: Sequence[str],
             frames: Chosen) -> Callable[[tuple[int, list[float]]], list[FrameMagnitudes]]:
    """A function from a frame's number, and the widths to count in, to what was counted for each name."""
    session = Probe(graph.model, names)

    def count(task: tuple[int, list[float]]) -> list[FrameMagnitudes]:
        index, widths = task
        counts = []
        for name, width, value in zip(names, widths, session.run_all(frames.read(index))):
            if not np.isfinite(value).all():
                raise UserError(f"{frames.paths[index].name}: {_layer(graph, name)} yields NaN or infinity; expected "
                                "a network whose activations are finite", try_="other weights, or a look at the image")
            counts.append(counted(value, width))
        return counts

    return count


def _layer(graph: FloatGraph, tensor: str) -> str:
    node = graph.producer[tensor]
    return graph.by_node[node.name].name if node.name in graph.by_node else node.name


def _key(graph: FloatGraph, frames: Chosen) -> str:
    digest = hashlib.sha256(graph.model.SerializeToString(deterministic=True))
    digest.update(frames.fingerprint.encode())
    return digest.hexdigest()[:16]


def _load(path: Path, names: Sequence[str]) -> tuple[int, dict[str, Magnitudes]]:
    fresh = {name: Magnitudes.empty() for name in names}
    if not path.is_file():
        return 0, fresh
    try:
        with np.load(path) as stored:
            counts, widths, ends, done = (stored[key] for key in ("counts", "widths", "ends", "done"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error})", try_=f"rm {path}, and run the command again") from error
    return int(done), {name: Magnitudes(c.copy(), float(w), float(low), float(high))
                       for name, c, w, (low, high) in zip(names, counts, widths, ends)}


def _save(path: Path, done: int, found: dict[str, Magnitudes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_one_piece(path) as temporary:
        np.savez_compressed(temporary, done=done, counts=np.stack([m.counts for m in found.values()]),
                            widths=[m.width for m in found.values()],
                            ends=[(m.lowest, m.highest) for m in found.values()])
