"""ncnn's two files: layers as lines of text, and their values one after the other.

`.param` has a magic number, two counts, and one line for each layer, in the order of computation; `.bin` has float32
values in the same order. ncnn's `modelbin.cpp` and each layer's `load_model` say what a layer has there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import UserError
from runtime.sessions.ncnn import BIN, PARAM


@dataclass(frozen=True)
class NcnnLayer:
    """One line of a `.param` file.

    Attributes:
        kind, name: its type and its own name.
        reads, makes: names of blobs.
        values: parameters by number, as text.
    """

    kind: str
    name: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    values: Mapping[str, str]

    @classmethod
    def of(cls, line: str) -> NcnnLayer:
        """Read a line."""
        kind, name, reads, makes, *rest = line.split()
        ends = int(reads), int(reads) + int(makes)
        return cls(kind, name, tuple(rest[:ends[0]]), tuple(rest[ends[0]:ends[1]]),
                   dict(word.split("=", 1) for word in rest[ends[1]:]))

    def number(self, key: int) -> int:
        """An integer parameter; 0 is every layer's default for those that are asked for here."""
        return int(self.values.get(str(key), "0"))

    def __str__(self) -> str:
        return " ".join([self.kind, self.name, str(len(self.reads)), str(len(self.makes)), *self.reads, *self.makes,
                         *(f"{key}={value}" for key, value in self.values.items())])


PLAIN: dict[str, Callable[[NcnnLayer], int]] = {
    "BatchNorm": lambda layer: 4 * layer.number(0),  # slope, mean, variance, bias
    "MemoryData": lambda layer: prod(max(layer.number(key), 1) for key in (0, 1, 11, 2))}  # w, h, d, c
"""Layers that have float32 values and nothing else in the `.bin`: how many."""

INTEGER = {"Convolution": (6, 5, 2), "ConvolutionDepthWise": (6, 5, 1), "InnerProduct": (2, 1, 2)}
"""Layers that compute in INT8: the parameter that counts weights, the one that says whether there is a bias, and what
parameter 8 must be for scales to be read."""

SILENT = {"Input", "BinaryOp", "UnaryOp", "Split", "ReLU", "HardSwish", "HardSigmoid", "Sigmoid", "Pooling", "Interp",
          "Concat", "Reshape", "Permute", "GridSample", "Tile", "Flip", "Softmax", "Clip", "Padding", "Crop", "Slice",
          "Swish", "GELU", "PixelShuffle", "ShuffleChannel", "ExpandDims", "Squeeze", "Reduction", "MatMul", "Dropout"}
"""Layers with nothing in the `.bin`."""


def layers_of(folder: Path) -> list[NcnnLayer]:
    """The network's layers, in the order of computation, which is that of the `.bin`."""
    return [NcnnLayer.of(line) for line in (folder / PARAM).read_text(encoding="utf-8").splitlines()[2:]]


def weighted(folder: Path) -> Iterator[tuple[NcnnLayer, npt.NDArray[np.float32]]]:
    """The layers of a float network, each with the values that it has in the `.bin`, tag included.

    Raises:
        UserError: a layer stores its values in a form that is not known here.
    """
    stored, at = np.fromfile(folder / BIN, np.float32), 0
    for layer in layers_of(folder):
        count = _stored(layer)
        yield layer, stored[at:at + count]
        at += count
    if at != stored.size:
        raise UserError(f"{folder / BIN} holds {stored.size} values, its layers account for {at}; expected a network "
                        "whose layers INT8 supports", try_="--precision fp16")


def write(like: Path, layers: Iterable[tuple[NcnnLayer, Iterable[npt.NDArray[Any]]]], out: Path) -> None:
    """Write a network with the blobs of another.

    Args:
        like: a network's folder.
        layers: all of its layers, each with the arrays that it has in the `.bin`.
        out: gets `PARAM` and `BIN`; nothing where `layers` raises.
    """
    lines, parts = (like / PARAM).read_text(encoding="utf-8").splitlines()[:2], list[bytes]()
    for layer, arrays in layers:
        lines.append(str(layer))
        parts += [array.tobytes() for array in arrays]
    out.mkdir(parents=True)
    (out / PARAM).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / BIN).write_bytes(b"".join(parts))


def _stored(layer: NcnnLayer) -> int:
    """How many 32-bit values a float layer has in the `.bin`, tag included."""
    if layer.kind in INTEGER:
        weights, bias, _ = INTEGER[layer.kind]
        return 1 + layer.number(weights) + layer.number(0) * layer.number(bias)
    if layer.kind in PLAIN:
        return PLAIN[layer.kind](layer)
    if layer.kind not in SILENT:
        raise UserError(f"INT8 for ncnn does not support weights as {layer.kind} stores them ({layer.name})",
                        try_="--precision fp16")
    return 0
