"""ncnn in INT8, with the ranges that this project's calibration finds.

ncnn's own tools are C++ programs that its wheel does not have. What they write is simple: beside the integers of a
layer's weights lie a scale for each output channel (for each group, where a convolution has groups) and one for what
the layer reads, and a parameter says so. Convolutions and inner products compute in integers; between them everything
stays float, quantised anew by each.

Ranges come from the float network's own blobs, counted by `calibration.quantise.ranges` on frames chosen by
`calibration.data.coverage` and cut by `calibration.quantise.thresholds`. ncnn has no zero-points: they are symmetric.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calibration.quantise.ranges import Magnitudes, check_finite
from calibration.quantise.thresholds import LEVELS, METHODS
from export.calibrated import METHOD
from export.ncnn.layers import INTEGER, NcnnLayer, layers_of, weighted, write
from runtime.sessions.ncnn import NcnnSession

if TYPE_CHECKING:
    from runtime.preprocess import Frame

INT8_TAG = np.uint32(0x000D4B38)
"""What stands before weights that are integers; 0 stands before float32 (ncnn's `modelbin.cpp`)."""


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
    for name, values in computed(folder, names, frames):
        found[name].add(values)
    return found


def computed(folder: Path, names: Sequence[str],
             frames: Iterable[Frame]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Blobs by name, frame by frame; arguments and errors as of `observed`."""
    with closing(NcnnSession(folder)) as session:
        for frame in frames:
            for name, values in zip(names, session.read(frame, list(names))):
                check_finite(f"blob {name}", values)
                yield name, values


def int8_from_float(folder: Path, seen: Mapping[str, Magnitudes], out: Path) -> None:
    """Write the network with integer weights, a scale for each output channel and one for each layer's input.

    Args:
        folder: a float network.
        seen: what `observed` found in it.
        out: gets the files.

    Raises:
        UserError: a layer's weights are of a form that is not known here.
    """
    write(folder, (_rounded(layer, values, seen) for layer, values in weighted(folder)), out)


def _rounded(layer: NcnnLayer, values: npt.NDArray[np.float32],
             seen: Mapping[str, Magnitudes]) -> tuple[NcnnLayer, Iterable[npt.NDArray[Any]]]:
    if layer.kind in INTEGER and (top := METHODS[METHOD](seen[layer.reads[0]], LEVELS)) > 0:
        return (replace(layer, values={**layer.values, "8": str(INTEGER[layer.kind][2])}),
                _integers(layer, values, top))
    return layer, [values]


def _integers(layer: NcnnLayer, values: npt.NDArray[np.float32], top: float) -> Iterator[npt.NDArray[Any]]:
    """A layer's arrays in INT8: tag, integers (to a multiple of four bytes), bias, scales of weights and of input."""
    count = layer.number(INTEGER[layer.kind][0])
    scaled = layer.number(7 if layer.kind == "ConvolutionDepthWise" else 0)
    weights, bias = values[1:1 + count].reshape(scaled, -1), values[1 + count:]
    scales = LEVELS / np.maximum(np.abs(weights).max(1), np.float32(1e-10))
    integers = np.clip(np.rint(weights * scales[:, None]), -LEVELS, LEVELS).astype(np.int8).ravel()
    yield np.array([INT8_TAG])
    yield np.pad(integers, (0, -count % 4))
    yield bias
    yield scales.astype(np.float32)
    yield np.array([LEVELS / top], np.float32)
