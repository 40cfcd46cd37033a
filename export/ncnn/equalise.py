"""Channels brought to similar sizes in a float network before it is quantised, without changing what it computes.

`calibration.quantise.equalise` says how, and does so in an ONNX graph; here are ncnn's layers. What a layer of integers
reads has one scale for all channels, and no zero-point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.quantise.equalise import Channels, Sizes, Tie, factors, joined, rescaled
from export.ncnn.layers import INTEGER, NcnnLayer, layers_of, weighted, write
from export.ncnn.quantise import computed
from runtime.preprocess import Frame

PASSING = {"Crop", "Dropout", "Interp", "Pooling", "ReLU", "Split"}
"""f(s·x) = s·f(x) for s > 0, channel by channel."""

ADD, SUBTRACT, MULTIPLY, DIVIDE = range(4)
"""What a BinaryOp does, by its parameter 0; parameter 1 says whether it does so with a number or with another blob."""


def equalised(folder: Path, frames: Iterable[Frame], out: Path) -> None:
    """Write the same float network with other weights.

    Args:
        folder: a float network.
        frames: uint8 [1, H, W, 3] BGR, which show how large each channel gets.
        out: gets the files.

    Raises:
        UserError: a blob holds NaN or infinity, or a layer's weights are of a form that is not known here.
    """
    names = sorted({name for layer in layers_of(folder) for name in layer.makes})
    shapes, largest = dict[str, tuple[int, ...]](), dict[str, Sizes]()
    for name, values in computed(folder, names, frames):
        shapes[name] = values.shape
        sizes = np.abs(values).max(tuple(range(1, values.ndim)))
        largest[name] = np.maximum(largest.get(name, sizes), sizes)
    graph = _NumberedBlobs(layers_of(folder), shapes)
    factor = factors(joined(graph.ties(), graph.count), np.concatenate([[0], *(largest[name] for name in names)]))
    write(folder, ((layer, [graph.multiplied(layer, values, factor)]) for layer, values in weighted(folder)), out)


class _NumberedBlobs:
    """A network with a number for every channel of its blobs; 0 stands for what must not be scaled.

    Attributes:
        count: of numbers.
    """

    def __init__(self, layers: list[NcnnLayer], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._layers, self._shapes = layers, shapes
        ends = np.cumsum([1, *(shapes[name][0] for name in sorted(shapes))])
        self._ranges = {name: (first, end) for name, first, end in zip(sorted(shapes), ends, ends[1:])}
        self._readers = Counter(name for layer in layers for name in layer.reads)
        self.count = int(ends[-1])

    def ties(self) -> Iterator[Tie]:
        """Channels that have one factor."""
        for layer in self._layers:
            yield from self._tied(layer)
            for name in layer.makes:
                if not self._readers[name]:  # a result
                    yield from self._pinned(name)

    def multiplied(self, layer: NcnnLayer, values: npt.NDArray[np.float32], factor: Sizes) -> npt.NDArray[np.float32]:
        """A layer's values: the factors of what it reads taken out of its weights, those of what it writes in."""
        if not self._takes_in(layer):
            return values
        read, written = (factor[self._channels(name)] for name in (*layer.reads, *layer.makes))
        count = layer.number(INTEGER[layer.kind][0])
        tag, weights, bias = np.split(values, [1, 1 + count])
        groups = layer.number(7) if layer.kind == "ConvolutionDepthWise" else 1
        rows = rescaled(weights.reshape(len(written), len(read) // groups, -1), read, written)
        return np.concatenate([tag, rows.ravel(), bias * written[:len(bias)]]).astype(np.float32)

    def _takes_in(self, layer: NcnnLayer) -> bool:
        """Whether a layer has weights with the channels of what it reads and writes."""
        return layer.kind in INTEGER and len(self._channels(layer.makes[0])) == layer.number(0) and (
            layer.kind != "InnerProduct" or len(self._shapes[layer.reads[0]]) == 1)

    def _tied(self, layer: NcnnLayer) -> Iterator[Tie]:
        if self._takes_in(layer):
            if layer.number(9) not in (0, 1):  # an activation that lets no factor through
                yield from self._pinned(layer.makes[0])
            return
        read = sorted(layer.reads, key=lambda name: -int(np.prod(self._shapes[name])))
        alike = bool(read) and len({self._shapes[name][0] for name in (*read, *layer.makes)}) == 1
        result = self._channels(layer.makes[0])
        if alike and self._passes(layer):
            yield from ((self._channels(name), self._channels(made)) for name in read for made in layer.makes)
        elif alike and layer.kind == "BinaryOp" and layer.number(0) == MULTIPLY:  # a gate stays as it is
            yield self._channels(read[0]), result
            for name in read[1:]:
                yield from self._pinned(name)
        elif layer.kind == "Concat" and layer.number(0) == 0 and len(result) == sum(
                self._shapes[name][0] for name in read):
            yield np.concatenate([self._channels(name) for name in layer.reads]), result
        else:
            for name in (*read, *layer.makes):
                yield from self._pinned(name)

    @staticmethod
    def _passes(layer: NcnnLayer) -> bool:
        """Whether a layer lets factors through, once all that it reads has the same."""
        if layer.kind == "BinaryOp":
            with_a_number = layer.number(1)
            return layer.number(0) in ((MULTIPLY, DIVIDE) if with_a_number else (ADD, SUBTRACT))
        return layer.kind in PASSING and len(layer.reads) == 1

    def _pinned(self, name: str) -> Iterator[Tie]:
        own = self._channels(name)
        yield own, np.zeros_like(own)

    def _channels(self, name: str) -> Channels:
        return np.arange(*self._ranges[name])
