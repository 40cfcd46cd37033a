"""How far each channel of an activation reaches, where a depthwise convolution reads it: for a scale for each channel.

A depthwise convolution adds up no two channels, so that the scale of each can be taken out of its sums, as that of a
weight is. NNCF does so for processors by default. Equalisation brings channels to similar sizes without any engine's
help, but not where a hard-swish lies in between, which lets no factor through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe
from calibration.quantise.graph import DEPTHWISE, FloatGraph
from calibration.quantise.thresholds import Range
from runtime.cli import progress


class Reach(NamedTuple):
    """What the integers of each channel represent: float32 [C], `low` ≤ 0 and `high` ≥ 0; both 0 where a channel was
    zero always."""

    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]


def reaches(graph: FloatGraph, thresholds: Mapping[str, Range], frames: Chosen) -> dict[str, Reach]:
    """Of every tensor that a depthwise convolution reads, channel by channel.

    Args:
        graph: the float graph; left as it is.
        thresholds: of whole tensors; no channel reaches further, as what lies beyond is better cut.
        frames: all of them are run.

    Returns:
        Tensor → the ends that were seen, within its threshold.
    """
    read = [graph.nodes[layer.node].input[0] for layer in graph.layers if layer.role == DEPTHWISE]
    names = [name for name in dict.fromkeys(read) if name in thresholds]
    if not names:
        return {}
    probe, count = Probe(graph.model, names), len(frames.paths)
    low, high = ([np.zeros(graph.shapes[name][1], np.float32) for name in names] for _ in range(2))
    for index in progress(range(count), count, "channels"):
        for ends, value in zip(zip(low, high), probe.run_all(frames.read(index))):
            np.minimum(ends[0], value.min(axis=(0, 2, 3)), out=ends[0])
            np.maximum(ends[1], value.max(axis=(0, 2, 3)), out=ends[1])
    return {name: Reach(np.maximum(down, thresholds[name].low), np.minimum(up, thresholds[name].high))
            for name, down, up in zip(names, low, high)}
