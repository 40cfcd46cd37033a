"""Is INT8 worth it here? Size, accuracy and speed against float, on every engine of this machine, in one table."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.judge.engines import Simulated
from calibration.judge.intervals import median
from calibration.judge.measure import Judge, Score
from calibration.judge.processor import Processor, this_processor
from calibration.quantise.quantize import Plan, int8_from_float
from calibration.recipe import CalibrationResult, drop_in_words
from calibration.request import CalibrationRequest
from calibration.source import load_onnx
from runtime.artifact import Artifact
from runtime.cli import progress
from runtime.sessions import engines, open_session, readers
from runtime.sessions.onnx import library
from runtime.turns import TURN, turn

ROUNDS = 10
"""Every engine takes its turn in each round, so that load from other processes affects all of them alike."""

NOISE = 0.05
"""Ratios closer to 1 than this are called equal."""

Run = Callable[[npt.NDArray[np.uint8]], Any]


@dataclass(frozen=True)
class Speed:
    """One engine with one file.

    Attributes:
        engine: its title.
        kind: "float32" or "int8".
        median_ms: of all rounds.
        ratio: median over rounds of its time / float32's time on the same engine; 1 for float32 itself.
    """

    engine: str
    kind: str
    median_ms: float
    ratio: float


def verdict(wanted: CalibrationRequest, outcome: CalibrationResult) -> str:
    """Compare, and say plainly which file to ship on this machine. For people; several lines."""
    rows = ["", _heading(outcome.judge)]
    rows.append(_row("float32", wanted.engine.stat().st_size, outcome.judge, outcome.judge.reference))
    rows.append(_row("INT8, simulated in float", outcome.path.stat().st_size, outcome.judge, outcome.simulated))
    for name, title in able(outcome.artifact).items():
        score = outcome.engine
        if name != wanted.judged_in:
            with closing(open_session(outcome.artifact, outcome.path, engine=name)) as session:
                score = outcome.judge.score(session, title)
        rows.append(_row(f"INT8, {title}'s kernels", outcome.path.stat().st_size, outcome.judge, score))
    for name, model in _small(outcome).items():
        rows.append(_row(name, model.ByteSize(), outcome.judge, outcome.judge.score(Simulated(model), name)))
    frame = wanted.artifact.preprocess(outcome.judge.held_out.frames[0])
    with ExitStack() as stack:
        runs: dict[tuple[str, str], Run] = {}
        for name, title in able(outcome.artifact).items():
            for kind, artifact, path in (("float32", wanted.artifact, wanted.engine),
                                         ("int8", outcome.artifact, outcome.path)):
                runs[title, kind] = stack.enter_context(closing(open_session(artifact, path, engine=name))).run
        speeds = measure_speed(runs, frame)
    rows += ["", f"{'':<30}{'ms':>7}  against float32 on the same engine ({ROUNDS} rounds of {TURN} frames in turns)"]
    rows += [f"{f'{s.engine}, {s.kind}':<30}{s.median_ms:>7.1f}  {s.ratio:.2f}x" for s in speeds]
    rows += [f"{entry.title}, either file: not measured, {why}" for name, entry in engines().items()
             if name in readers(outcome.artifact.target) and (why := entry.hindrance())]
    return "\n".join([*rows, "", conclusion(speeds, this_processor(), fusion(outcome.path))])


def conclusion(speeds: Sequence[Speed], processor: Processor, unfused: OrtFusion) -> str:
    """One line for each engine and one that decides: which engine with which file is fastest, and why INT8 is not."""
    lines = []
    for speed in speeds:
        if speed.kind != "int8":
            continue
        if speed.ratio > 1 + NOISE:
            line = f"{speed.engine}: INT8 is slower here ({speed.ratio:.1f}x): ship float"
        elif speed.ratio < 1 - NOISE:
            line = f"{speed.engine}: INT8 is faster here ({1 / speed.ratio:.1f}x)"
        else:
            line = f"{speed.engine}: INT8 is as fast as float here; it saves size only"
        if speed.ratio > 1 - NOISE:
            line += f" ({_reasons(processor, unfused if speed.engine == 'ONNX Runtime' else None)})"
        lines.append(line)
    best = min(speeds, key=lambda speed: speed.median_ms)
    others = "".join(f"; {speed.engine} with the {speed.kind} file is as fast, {speed.median_ms:.1f} ms"
                     for speed in speeds if speed is not best and speed.median_ms < best.median_ms * (1 + NOISE))
    lines.append(f"Verdict for this machine ({processor.describe()}): {best.engine} with the {best.kind} file "
                 f"is fastest, {best.median_ms:.1f} ms{others}.")
    return "\n".join(lines)


def _reasons(processor: Processor, unfused: OrtFusion | None) -> str:
    reasons = []
    if not processor.dot_products:
        reasons.append(processor.describe())
    if unfused is not None:
        reasons.append(f"{unfused.float_convolutions} of {unfused.convolutions} convolutions stay in float and "
                       f"{unfused.conversions} conversions between float and INT8 remain after its fusions")
    return "; ".join(reasons) or "its INT8 kernels bring nothing for these layers"


@dataclass(frozen=True)
class OrtFusion:
    """What ONNX Runtime makes of a Q/DQ graph on this machine.

    Attributes:
        convolutions: all of the graph.
        float_convolutions: those that it computes in float.
        conversions: QuantizeLinear and DequantizeLinear that are left.
    """

    convolutions: int
    float_convolutions: int
    conversions: int


def fusion(path: Path) -> OrtFusion:
    """Let ONNX Runtime optimise a file, and count."""
    ort = library()
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = os.path.join(folder, "optimised.onnx")
        ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        kinds = [node.op_type for node in load_onnx(Path(options.optimized_model_filepath)).graph.node]
    left = kinds.count("Conv") + kinds.count("FusedConv")
    return OrtFusion(left + kinds.count("QLinearConv"), left,
                  kinds.count("QuantizeLinear") + kinds.count("DequantizeLinear"))


def measure_speed(runs: Mapping[tuple[str, str], Run], frame: npt.NDArray[np.uint8],
                  rounds: int = ROUNDS) -> list[Speed]:
    """Time all in turns."""
    times: dict[tuple[str, str], list[list[float]]] = {key: [] for key in runs}
    for _ in progress(range(rounds), rounds, "speed"):
        for key, run in runs.items():
            times[key].append(turn(partial(run, frame), TURN))
    return [Speed(engine, kind, median(taken), statistics.median(
                statistics.median(a) / statistics.median(b) for a, b in zip(taken, times[engine, "float32"])))
            for (engine, kind), taken in times.items()]


def able(artifact: Artifact) -> dict[str, str]:
    """Name and title of every engine of this machine that runs an artifact."""
    return {name: engines()[name].title for name in readers(artifact.target) if not engines()[name].hindrance()}


def _heading(judge: Judge) -> str:
    labelled = f"{'mIoU [95 %]':>25}{'drop [95 %]':>23}" if judge.held_out.labels else ""
    return f"{f'on {len(judge.held_out.names)} frames':<30}{'MB':>7}{labelled}{'same class':>12}{'worst frame':>13}"


def _row(name: str, size: int, judge: Judge, score: Score) -> str:
    row = f"{name:<30}{size / 1e6:>7.1f}"
    if score.miou is not None:
        low, high = judge.accuracy(score).interval()
        reach = f"{100 * score.miou:.2f} [{100 * low:.2f}, {100 * high:.2f}]"
        row += f"{reach:>25}" + (f"{'':>23}" if score is judge.reference else f"{drop_in_words(judge, score):>23}")
    return row + f"{score.agreement.mean():>12.2%}{score.agreement.min():>13.2%}"


def _small(outcome: CalibrationResult) -> dict[str, onnx.ModelProto]:
    """The files for those who need a small one only: weights stored small, arithmetic in float32."""
    ready = outcome.prepared
    return {"INT8 weights only": int8_from_float(ready.graph, {}, Plan(ready.plan.nodes, activations=False)),
            "FP16 weights only": half_weights(ready.graph.model)}


def half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights of convolutions and matrix products as float16, and cast them back where they are used."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    used = {node.input[1] for node in result.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}}
    casts = []
    for tensor in result.graph.initializer:
        if tensor.name in used and tensor.data_type == TensorProto.FLOAT:
            casts.append(helper.make_node("Cast", [f"{tensor.name}_fp16"], [tensor.name], to=TensorProto.FLOAT))
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, f"{tensor.name}_fp16"))
    nodes = [*casts, *result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result
