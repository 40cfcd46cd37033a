"""A float artifact and a folder of images in, an INT8 artifact out: the steps in order, and what they say."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from calibration.judge.budget import FloatLayer, int8_share, searched
from calibration.judge.engines import Simulated
from calibration.judge.lint import lint
from calibration.judge.measure import HeldOut, Judge, Score
from calibration.judge.processor import this_processor
from calibration.quantise.finetune import fine_tuned, training_folder
from calibration.quantise.quantize import Plan, int8_from_float
from calibration.request import CalibrationRequest, Prepared, Say, prepare
from calibration.trial import SEARCH_FRAMES, scored, trial_for
from runtime.artifact import Artifact, Check, publish
from runtime.errors import GateFailed
from runtime.sessions import engines
from runtime.sessions.onnx import OnnxSession

Accept = Callable[[Artifact, Path], Artifact]

ENGINES_AGREE = 0.995
"""Share of pixels on which integer kernels must agree with the simulation that a fine-tuned network learnt in."""


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
                        trial_for(wanted, ready), wanted.max_drop, wanted.max_ms, say)
        plan = dataclasses.replace(plan, nodes=plan.nodes - {entry.layer.node for entry in kept})
    model = int8_from_float(ready.graph, ready.thresholds, plan)
    if findings := lint(model, wanted.form.integers):
        raise GateFailed(f"the INT8 graph breaks a rule of its engines: {findings[0]}; nothing was written")
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
    if wanted.epochs and alike < ENGINES_AGREE:
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
        "zero_points": plan.form.is_unsigned(-1),
        "operators": sorted({ready.graph.by_node[node].op for node in plan.nodes}), "improve": sorted(wanted.improve),
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
