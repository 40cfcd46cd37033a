"""What each layer costs in an engine, in float and in INT8, by the engine's own profile of both graphs."""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from calibration.judge.intervals import Interval, ratio_interval
from runtime.errors import UserError
from runtime.sessions import engines, open_session
from runtime.turns import TURN, turn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from calibration.quantise.graph import FloatGraph
    from runtime.artifact import Artifact
    from runtime.sessions import Session

RUNS = 30
FEWEST, MOST, ENOUGH_S = 8, 200, 20.0
"""Rounds of two files in turns, and seconds after which no further one begins."""
GRAPHS = "onnx"
"""The format of the files that are measured here."""

Kernel = tuple[Sequence[str], float]
"""The names that an engine gives a kernel and what it has fused into it, and its milliseconds."""
Profiler = Callable[[Path, "npt.NDArray[np.uint8]", int], list[Kernel]]
"""A file, a frame (uint8 [1, H, W, 3] BGR) and how often it is run → every kernel with its median."""


def kernels(model: onnx.ModelProto, engine: str, frame: npt.NDArray[np.uint8]) -> list[Kernel]:
    """Run a graph under an engine's profiler.

    Raises:
        UserError: the engine's session brings no profiler.
    """
    profile = profiler(engine)
    if profile is None or GRAPHS not in engines()[engine].reads:
        raise UserError(f"{engines()[engine].title} does not report the time of each kernel of such a graph; "
                        "expected an engine that does", try_="--engine onnx, or the same without --max-ms")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save_model(model, path)
        return profile(path, frame, RUNS)


def profiler(engine: str) -> Profiler | None:
    """How an engine tells what each kernel of a file takes, in the order of the run; None where it does not."""
    session = importlib.import_module(f"runtime.sessions.{engine.replace('-', '_')}")
    found: Profiler | None = getattr(session, "kernels", None)
    return found


def layer_ms(graph: FloatGraph, profile: Sequence[Kernel]) -> dict[str, float]:
    """Milliseconds of each layer with weights and of everything up to the next one: the conversions between float and
    integers, activation functions, additions. What comes before the first layer is left out."""
    found: defaultdict[str, float] = defaultdict(float)
    for head, (_, ms) in zip(led_back(graph, profile, _heads(graph)), profile):
        if head is not None:
            found[head] += ms
    return dict(found)


def led_back(graph: FloatGraph, profile: Sequence[Kernel], heads: Mapping[str, str]) -> list[str | None]:
    """Of each kernel the layer that it belongs to, None where its names say nothing of one.

    Args:
        graph: the float graph.
        profile: of its file, or of what was made of it.
        heads: node → layer, itself where it is one.

    An engine derives its names from those of nodes and tensors; the longest one that occurs in a name is meant.
    """
    known = {node.name: node.name for node in graph.graph.node} | {
        tensor: node.name for tensor, node in graph.producer.items()}
    longest = sorted(known, key=len, reverse=True)
    found = list[str | None]()
    for names, _ in profile:
        nodes = [known[key] for name in names for key in [next((k for k in longest if k in name), "")] if key]
        found.append(next((node for node in nodes if heads.get(node) == node), heads.get(nodes[0]) if nodes else None))
    return found


def _heads(graph: FloatGraph) -> dict[str, str]:
    """Node → the layer with weights that it follows, itself where it is one."""
    heads: dict[str, str] = {}
    for node in graph.graph.node:
        before = [heads[graph.producer[name].name] for name in node.input
                  if name in graph.producer and graph.producer[name].name in heads]
        layer = graph.by_node.get(node.name)
        if layer is not None and layer.macs:
            heads[node.name] = node.name
        elif before:
            heads[node.name] = before[0]
    return heads


def price(graph: FloatGraph, model: onnx.ModelProto, engine: str, frame: npt.NDArray[np.uint8]) -> dict[str, float]:
    """What keeping each layer in float would cost, in ms; below 0 where float is the faster one.

    Args:
        graph: the float graph.
        model: its INT8 form.
        engine: that runs both.
        frame: uint8 [1, H, W, 3] BGR.
    """
    exact, integer = (layer_ms(graph, kernels(m, engine, frame)) for m in (graph.model, model))
    return {layer.node: exact.get(layer.node, 0.0) - integer.get(layer.node, 0.0)
            for layer in graph.layers if layer.macs}


def whole_ms(artifact: Artifact, model: onnx.ModelProto, engine: str, frame: npt.NDArray[np.uint8]) -> float:
    """Median milliseconds of a frame, without a profiler."""
    with _opened(artifact, model, engine) as session:
        return statistics.median(turn(partial(session.run, frame), RUNS))


def ratio_in_turns(artifact: Artifact, one: onnx.ModelProto, other: onnx.ModelProto, engine: str,
                   frame: npt.NDArray[np.uint8]) -> Interval:
    """The time of a frame in `other` over that in `one`, both run in turns."""
    rounds = list[list[list[float]]]()
    with _opened(artifact, one, engine) as first, _opened(artifact, other, engine) as second:
        end = time.perf_counter() + ENOUGH_S
        while len(rounds) < FEWEST or (len(rounds) < MOST and time.perf_counter() < end):
            rounds.append([turn(partial(session.run, frame), TURN) for session in (first, second)])
    return ratio_interval([a for a, _ in rounds], [b for _, b in rounds], paired=True)


@contextmanager
def _opened(artifact: Artifact, model: onnx.ModelProto, engine: str) -> Iterator[Session]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / artifact.file
        onnx.save_model(model, path)
        with closing(open_session(artifact, path, engine=engine)) as session:
            yield session
