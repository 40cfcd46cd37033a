"""How large each activation gets: streaming histograms over the calibration frames, cached and resumable."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe
from calibration.quantise.graph import FloatGraph
from runtime.cli import progress
from runtime.errors import UserError
from runtime.files import in_one_piece

BINS = 2048
"""Bins of a histogram; when a value falls beyond the last, neighbours are merged and the width doubles."""

_FRAMES_BETWEEN_SAVES = 8


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

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the values of one frame, all finite."""
        size = np.abs(values).ravel()
        top = float(size.max(initial=0))
        self.lowest = min(self.lowest, float(values.min(initial=0)))
        self.highest = max(self.highest, float(values.max(initial=0)))
        if top == 0:
            self.counts[0] += len(size)
            return
        if self.width == 0:
            self.width = top / BINS * (1 + 1e-6)
        while top >= self.width * BINS:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.width *= 2
        bins = np.minimum((size * np.float32(1 / self.width)).astype(np.intp), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    @property
    def largest(self) -> float:
        """The largest |x| seen."""
        return max(-self.lowest, self.highest)

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Float64 [BINS], the middle of each bin."""
        return np.asarray((np.arange(BINS) + 0.5) * self.width)


def collect(graph: FloatGraph, frames: Chosen, cache: Path) -> dict[str, Magnitudes]:
    """Run the float graph on every frame and count the magnitudes of all its activations.

    Args:
        graph: the float graph.
        frames: the calibration frames.
        cache: folder where ranges are kept between runs, by the fingerprint of graph and frames. What an interrupted
            run had finished is taken up again.

    Raises:
        UserError: an activation is infinite or not a number.
    """
    names = graph.float_tensors
    path = cache / f"ends-{_key(graph, frames)}.npz"
    done, found = _load(path, names)
    if done == len(frames.paths):
        return found
    session = Probe(graph.model, names)
    rest = list(range(done, len(frames.paths)))
    for index in progress(rest, len(rest), "ranges"):
        for name, value in zip(names, session.run_all(frames.read(index))):
            if not np.isfinite(value).all():
                raise UserError(f"{frames.paths[index].name}: {_layer(graph, name)} yields NaN or infinity; expected "
                                "a network whose activations are finite", try_="other weights, or a look at the image")
            found[name].add(value)
        if (index + 1) % _FRAMES_BETWEEN_SAVES == 0 or index + 1 == len(frames.paths):
            _save(path, index + 1, found)
    return found


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
