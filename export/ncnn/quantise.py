"""ncnn in INT8, with the ranges that this project's calibration finds.

ncnn's own tools are C++ programs that its wheel does not have. What they write is simple: beside the integers of a
layer's weights lie a scale for each output channel and one for what the layer reads, and a parameter says so.
Convolutions and inner products compute in integers; between them everything stays float, quantised anew by each.

Ranges come from the float network's own blobs, counted by `calibration.quantise.ranges` on frames chosen by
`calibration.data.coverage` and cut by `calibration.quantise.thresholds`. ncnn has no zero-points: they are symmetric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calibration.quantise.ranges import Magnitudes
from calibration.quantise.thresholds import LEVELS, METHODS
from export.calibrated import METHOD
from runtime.errors import UserError
from runtime.sessions.ncnn import BIN, PARAM, NcnnSession

if TYPE_CHECKING:
    from runtime.preprocess import Frame

INT8_TAG = np.uint32(0x000D4B38)
"""What stands before weights that are integers; 0 stands before float32 (ncnn's `modelbin.cpp`)."""


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


def observed(folder: Path, frames: Iterable[Frame]) -> dict[str, Magnitudes]:
    """Every blob that a layer of `INTEGER` reads, by name.

    Args:
        folder: a float network.
        frames: uint8 [1, H, W, 3] BGR at the network's size.

    Raises:
        UserError: a blob holds NaN or infinity.
    """
    names = sorted({layer.reads[0] for layer in layers_of(folder) if layer.kind in INTEGER})
    found = {name: Magnitudes.empty() for name in names}
    with closing(NcnnSession(folder)) as session:
        for frame in frames:
            for name, values in zip(names, session.read(frame, names)):
                if not np.isfinite(values).all():
                    raise UserError(f"blob {name} holds NaN or infinity on a calibration frame; expected a network "
                                    "whose activations are finite", try_="other weights, or a look at the images")
                found[name].add(values)
    return found


def int8_from_float(folder: Path, seen: Mapping[str, Magnitudes], out: Path) -> None:
    """Write the network with integer weights, a scale for each output channel and one for each layer's input.

    Args:
        folder: a float network.
        seen: what `observed` found in it.
        out: gets `PARAM` and `BIN`.

    Raises:
        UserError: a layer's weights are of a form that is not known here.
    """
    head = (folder / PARAM).read_text(encoding="utf-8").splitlines()[:2]
    stored = np.fromfile(folder / BIN, np.float32)
    lines, parts, at = [*head], list[npt.NDArray[Any]](), 0
    for layer in layers_of(folder):
        count = _stored(layer)
        values, at = stored[at:at + count], at + count
        if layer.kind in INTEGER and (top := METHODS[METHOD](seen[layer.reads[0]], LEVELS)) > 0:
            layer = replace(layer, values={**layer.values, "8": str(INTEGER[layer.kind][2])})
            parts += _integers(layer, values, top)
        else:
            parts.append(values)
        lines.append(str(layer))
    if at != stored.size:
        raise UserError(f"{folder / BIN} holds {stored.size} values, its layers account for {at}; expected a network "
                        "whose layers INT8 supports", try_="--precision fp16")
    out.mkdir(parents=True)
    (out / PARAM).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / BIN).write_bytes(b"".join(part.tobytes() for part in parts))


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


def _integers(layer: NcnnLayer, values: npt.NDArray[np.float32], top: float) -> Iterator[npt.NDArray[Any]]:
    """A layer's arrays in INT8: tag, integers (to a multiple of four bytes), bias, scales of weights and of input."""
    count = layer.number(INTEGER[layer.kind][0])
    weights, bias = values[1:1 + count].reshape(layer.number(0), -1), values[1 + count:]
    scales = LEVELS / np.maximum(np.abs(weights).max(1), np.float32(1e-10))
    integers = np.clip(np.rint(weights * scales[:, None]), -LEVELS, LEVELS).astype(np.int8).ravel()
    yield np.array([INT8_TAG])
    yield np.pad(integers, (0, -count % 4))
    yield bias
    yield scales.astype(np.float32)
    yield np.array([LEVELS / top], np.float32)
