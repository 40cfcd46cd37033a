"""A float artifact and a folder of images in, an INT8 artifact out: the steps in order, and what they say."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.data.coverage import Chosen, choose
from calibration.judge.budget import FloatLayer, Trial, int8_share, searched
from calibration.judge.costs import price, whole_ms
from calibration.judge.engines import Simulated
from calibration.judge.lint import lint
from calibration.judge.measure import HeldOut, Judge, Score, find_data, read_held_out
from calibration.judge.processor import this_processor
from calibration.quantise.bias import corrected
from calibration.quantise.equalise import equalised
from calibration.quantise.finetune import fine_tuned, training_folder
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, all_nodes, int8_from_float
from calibration.quantise.ranges import collect
from calibration.quantise.rounding import rounded
from calibration.quantise.thresholds import Range
from calibration.quantise.thresholds import choose as choose_thresholds
from calibration.source import load_onnx
from runtime.artifact import Artifact, Check, publish
from runtime.errors import GateFailed
from runtime.forms import PORTABLE, Form
from runtime.sessions import engines, open_session
from runtime.sessions.onnx import OnnxSession

Say = Callable[[str], None]
Accept = Callable[[Artifact, Path], Artifact]

SENSITIVITY_FRAMES = 8
"""Frames that judge each layer alone."""

SEARCH_FRAMES = 25
"""Frames that judge while layers are searched; the result is judged on all."""


ENGINES_AGREE = 0.995
"""Share of pixels on which integer kernels must agree with the simulation that a fine-tuned network learnt in."""


@dataclass(frozen=True)
class CalibrationRequest:
    """What is to be quantised, and how.

    Attributes:
        artifact, engine: the float32 artifact.
        data: folder of images, see `calibration.judge.measure.find_data`.
        out: folder for the INT8 artifact; made when missing.
        method: of the ranges, a key of `calibration.quantise.thresholds.METHODS`.
        frames: how many to calibrate on.
        allow_few: accept fewer than 32.
        weight_bits: 8 or 7.
        improve: any of "equalise", "rounding", "bias".
        max_drop: budget, in points of mIoU, or % of pixels without labels; None for none.
        max_ms: how long a frame may take in the engine `made_for`; None for any time.
        judge_on: frames to judge on at most.
        epochs: of quantisation-aware fine-tuning; 0 for none.
        made_for: the engine in whose best form the file is written; "" for all engines.
        ray: the cluster to find ranges on, as `runtime.cluster` names it; None for this process.
    """

    artifact: Artifact
    engine: Path
    data: Path
    out: Path
    method: str = "mse"
    frames: int = 64
    allow_few: bool = False
    weight_bits: int = 8
    improve: frozenset[str] = frozenset({"equalise"})
    max_drop: float | None = None
    max_ms: float | None = None
    judge_on: int = 200
    epochs: int = 0
    made_for: str = ""
    ray: str | None = None

    @property
    def form(self) -> Form:
        """How the file's integers stand."""
        return engines()[self.made_for].form if self.made_for else PORTABLE

    @property
    def judged_in(self) -> str:
        """The engine whose integer kernels are judged."""
        return self.made_for or self.artifact.target

    @property
    def path(self) -> Path:
        """Of the INT8 file: NAME-HxW-int8.onnx, with "-w7" for 7-bit weights and "-ENGINE" for that engine's form."""
        height, width = self.artifact.preprocess.size
        bits = "" if self.weight_bits == 8 else f"-w{self.weight_bits}"
        engine = f"-{self.made_for}" if self.made_for else ""
        kind = "" if self.artifact.output_kind.value == "low" else f"-{self.artifact.output_kind.value}"
        return self.out / f"{self.artifact.name}-{height}x{width}-int8{bits}{engine}{kind}.onnx"


@dataclass(frozen=True)
class Prepared:
    """A network ready to be written in INT8.

    Attributes:
        graph: float, equalised and corrected as asked.
        thresholds: of its activations.
        plan: everything that may be INT8.
        chosen: the calibration frames.
        held_out: the frames to judge on.
    """

    graph: FloatGraph
    thresholds: dict[str, Range]
    plan: Plan
    chosen: Chosen
    held_out: HeldOut


def prepare(wanted: CalibrationRequest, say: Say) -> Prepared:
    """Choose frames, find ranges, and carry out the improvements asked for."""
    cache = wanted.out / ".calibration"
    graph = FloatGraph(load_onnx(wanted.engine))
    data = find_data(wanted.data)
    chosen = choose(data.images, wanted.frames, wanted.artifact.preprocess, allow_few=wanted.allow_few)
    held_out = read_held_out(data, chosen, wanted.artifact, wanted.judge_on)
    say(f"{len(chosen.paths)} calibration frames of {data.images} (fingerprint {chosen.fingerprint[:12]}), "
        f"judged on {len(held_out.names)} others, {'with' if held_out.labels else 'without'} labels")
    if "equalise" in wanted.improve:
        graph = equalised(graph, chosen)
    seen = collect(graph, chosen, cache, wanted.ray)
    thresholds = choose_thresholds(wanted.method, seen, unsigned=wanted.form.integers == "unsigned",
                                   zero_points=wanted.form.zero_points)
    plan = Plan(all_nodes(graph, wanted.form), weight_bits=wanted.weight_bits, form=wanted.form)
    if dead := [name for name, reach in thresholds.items() if not any(reach)]:
        say(f"{len(dead)} activations are zero on every calibration frame ({', '.join(sorted(dead)[:3])}, …)")
    if "rounding" in wanted.improve:
        plan = rounded(graph, thresholds, plan, chosen)
    if "bias" in wanted.improve:
        graph = corrected(graph, thresholds, plan, chosen)
    return Prepared(graph, thresholds, plan, chosen, held_out)


@dataclass(frozen=True)
class CalibrationResult:
    """An INT8 artifact that has been written, and what it was judged by."""

    path: Path
    artifact: Artifact
    prepared: Prepared
    judge: Judge
    simulated: Score
    engine: Score
    kept: tuple[FloatLayer, ...]


def _reopened(artifact: Artifact, path: Path) -> Artifact:
    OnnxSession(path).close()
    return artifact


def build(wanted: CalibrationRequest, say: Say = lambda line: None, accept: Accept = _reopened) -> CalibrationResult:
    """Quantise, judge, and write.

    Args:
        wanted: what to quantise.
        say: receives one line per step.
        accept: sees the artifact and the written file before it counts; see `runtime.artifact.publish`.

    Raises:
        GateFailed: the budget cannot be met, the graph would not be portable, or integer kernels do not compute what
            was learnt; nothing is written.
    """
    ready = prepare(wanted, say)
    judge = Judge(wanted.artifact, OnnxSession(wanted.engine), ready.held_out)
    learnt = dict[str, Any]()
    if wanted.epochs:
        ready, learnt = _fine_tuned(wanted, ready, judge, say)
    plan, kept = ready.plan, tuple[FloatLayer, ...]()
    if wanted.max_drop is not None or wanted.max_ms is not None:
        kept = searched([layer for layer in ready.graph.layers if layer.node in plan.nodes and layer.macs],
                        _trial(wanted, ready), wanted.max_drop, wanted.max_ms, say)
        plan = dataclasses.replace(plan, nodes=plan.nodes - {entry.layer.node for entry in kept})
    model = int8_from_float(ready.graph, ready.thresholds, plan)
    if findings := lint(model, wanted.form.integers):
        raise GateFailed(f"the INT8 graph is not what its engines take: {findings[0]}; nothing was written")
    kernels = f"{engines()[wanted.judged_in].title}'s integer kernels"
    simulated, engine = judge.score(Simulated(model), "simulated"), scored(wanted, judge, model, kernels)
    for name, score in (("simulated in float", simulated), (kernels, engine)):
        say(f"INT8, {name}: {describe(judge, score)}")
    held = engine if wanted.made_for else simulated
    if wanted.max_drop is not None and judge.drop(held) > wanted.max_drop:
        raise GateFailed(f"on all {len(judge.held_out.names)} frames INT8 loses {judge.drop(held):.2f} {judge.unit}, "
                         f"{wanted.max_drop} is allowed (the search saw {SEARCH_FRAMES} frames); nothing was written",
                         try_=f"--max-drop {wanted.max_drop / 2:g}, which searches with a margin")
    alike = _between(engine, simulated).agreement.mean()
    say(f"INT8, integer kernels against simulated: {alike:.2%} of pixels agree")
    if wanted.epochs and alike < ENGINES_AGREE and not (plan.weight_bits == 8 and this_processor().saturates):
        raise GateFailed(f"{kernels} agree with the simulation on {alike:.2%} of pixels, "
                         f"{ENGINES_AGREE:.1%} are required of a fine-tuned network; nothing was written")
    artifact = _describe(wanted, ready, plan, kept, judge, simulated, engine, learnt)
    artifact = publish(artifact, wanted.path, lambda temporary: onnx.save_model(model, temporary), accept)
    return CalibrationResult(wanted.path, artifact, ready, judge, simulated, engine, kept)


def _fine_tuned(wanted: CalibrationRequest, ready: Prepared, judge: Judge, say: Say) -> tuple[Prepared, dict[str, Any]]:
    """What fine-tuning makes of a network, and the artifact's record of it; says what there was before."""
    train = training_folder(wanted.data)
    before = judge.score(Simulated(int8_from_float(ready.graph, ready.thresholds, ready.plan)), "before fine-tuning")
    say(f"INT8 before fine-tuning, simulated in float: {describe(judge, before)}")
    graph, losses = fine_tuned(ready.graph, ready.thresholds, ready.plan, wanted.artifact, train, wanted.epochs)
    epochs = "1 epoch" if wanted.epochs == 1 else f"{wanted.epochs} epochs"
    say(f"{epochs} over {train}: mean loss {' → '.join(f'{loss:.4f}' for loss in losses)}")
    return dataclasses.replace(ready, graph=graph), {
        "epochs": wanted.epochs, "losses": losses, "drop_before": judge.drop(before)}


def describe(judge: Judge, score: Score) -> str:
    """One clause: agreement, and mIoU with its drop where there are labels."""
    agreement = f"{score.agreement.mean():.2%} of pixels as in float32 (worst frame {score.agreement.min():.2%})"
    if score.miou is None:
        return agreement
    return f"mIoU {100 * score.miou:.2f}, drop {drop_in_words(judge, score)} points, {agreement}"


def drop_in_words(judge: Judge, score: Score) -> str:
    """The drop and its 95 % interval, such as "+0.47 [+0.24, +0.66]"."""
    drop, low, high = (f"{round(x, 2) + 0.0:+.2f}" for x in (judge.drop(score), *judge.drop_interval(score)))
    return f"{drop} [{low}, {high}]"


def _trial(wanted: CalibrationRequest, ready: Prepared) -> Trial:
    """Plans are tried in the engine that the file is made for; in simulation, at MACs for a price, where it is made for
    all."""
    judge = Judge(wanted.artifact, OnnxSession(wanted.engine), ready.held_out.part(SEARCH_FRAMES))

    def graph(kept: frozenset[str]) -> onnx.ModelProto:
        return int8_from_float(ready.graph, ready.thresholds,
                               dataclasses.replace(ready.plan, nodes=ready.plan.nodes - kept))

    def simulated(kept: frozenset[str]) -> float:
        return judge.drop(judge.score(Simulated(graph(kept))))

    def executed(kept: frozenset[str]) -> float:
        return judge.drop(scored(wanted, judge, graph(kept)))

    if not wanted.made_for:
        macs = {layer.node: float(layer.macs) for layer in ready.graph.layers}
        return Trial(simulated, macs, None, judge.unit, len(judge.held_out.names))
    frame = ready.chosen.read(0)
    return Trial(executed, price(ready.graph, graph(frozenset()), wanted.made_for, frame),
                 lambda kept: whole_ms(wanted.artifact, graph(kept), wanted.made_for, frame),
                 judge.unit, len(judge.held_out.names))


def scored(wanted: CalibrationRequest, judge: Judge, model: onnx.ModelProto, label: str = "") -> Score:
    """How a graph does in the engine that it is judged in."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save_model(model, path)
        with closing(open_session(wanted.artifact, path, engine=wanted.judged_in)) as session:
            return judge.score(session, label)


def _describe(wanted: CalibrationRequest, ready: Prepared, plan: Plan, kept: tuple[FloatLayer, ...], judge: Judge,
              simulated: Score, engine: Score, learnt: dict[str, Any]) -> Artifact:
    kernels = f"int8 in {engines()[wanted.judged_in].title}'s integer kernels"
    checks = tuple(_check(step, score, judge.held_out) for step, score in (
        ("int8 simulated in float vs fp32", simulated), (f"{kernels} vs fp32", engine),
        (f"{kernels} vs simulated", _between(engine, simulated))))
    figures: dict[str, Any] = {"frames": len(judge.held_out.names), "unit": judge.unit, "processor":
                               this_processor().describe()}
    for name, score in (("float", judge.reference), ("simulated", simulated), ("engine", engine)):
        figures[name] = {"miou": score.miou, "drop": judge.drop(score), "interval": list(judge.drop_interval(score))}
    calibration = {
        "fingerprint": ready.chosen.fingerprint, "frames": len(ready.chosen.paths), "method": wanted.method,
        "made_for": wanted.made_for,
        "weight_bits": plan.weight_bits, "improve": sorted(wanted.improve),
        "int8_macs": int8_share(ready.graph, plan), "max_drop": wanted.max_drop, "max_ms": wanted.max_ms,
        "kept_in_float": [{"layer": k.layer.name, "role": k.layer.role, "macs": k.layer.macs, "reason": k.reason}
                          for k in kept],
        "fine_tuned": learnt or None, "judged": figures, "from_sha256": wanted.artifact.sha256}
    return dataclasses.replace(
        wanted.artifact, precision="int8", integers=wanted.form.integers, calibration=calibration,
        verification=(*wanted.artifact.verification, *checks),
        tools={**wanted.artifact.tools, "python": platform.python_version(), "onnx": version("onnx"),
               "onnxruntime": version("onnxruntime"), **engines()[wanted.judged_in].versions()})


def _between(engine: Score, simulated: Score) -> Score:
    """What is the engine's doing alone: its masks held against the simulation's."""
    return Score(np.array([np.mean(a == b) for a, b in zip(engine.masks, simulated.masks)]), engine.counts, ())


def _check(step: str, score: Score, held_out: HeldOut) -> Check:
    worst = int(np.argmin(score.agreement))
    return Check(step, None, None, None, float(score.agreement.mean()), held_out.names[worst],
                 float(score.agreement[worst]), len(held_out.names))
