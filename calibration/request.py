"""What is to be quantised, and the network made ready for it: frames chosen, ranges found, improvements carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from calibration.data.coverage import Chosen, choose
from calibration.judge.costs import ratio_in_turns
from calibration.judge.measure import HeldOut, find_data, read_held_out
from calibration.quantise.bias import corrected
from calibration.quantise.channels import reaches
from calibration.quantise.equalise import equalised
from calibration.quantise.graph import FloatGraph
from calibration.quantise.pad import padded
from calibration.quantise.quantize import Plan, all_nodes, int8_from_float
from calibration.quantise.ranges import Magnitudes, collect
from calibration.quantise.rounding import INPUTS, rounded, searched
from calibration.quantise.thresholds import Range
from calibration.quantise.thresholds import choose as choose_thresholds
from calibration.source import load_onnx
from runtime.artifact import Artifact
from runtime.forms import PORTABLE, Form
from runtime.sessions import engines

Say = Callable[[str], None]

Planned = tuple[dict[str, Range], Plan]
"""Ranges, and what becomes an integer."""

COARSER, OFTENER = 1.0, 0.95
"""Share of a frame's time below which its whole 95 % interval has to lie for a graph that rounds more coarsely, or more
often, to be taken: the one costs up to 0.13 % of pixels, the other up to 0.3."""


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
    improve: frozenset[str] = frozenset({"equalise", "rounding"})
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
        """Of the INT8 file: NAME-HxW-int8.onnx, with "-ENGINE" for that engine's form."""
        height, width = self.artifact.preprocess.size
        engine = f"-{self.made_for}" if self.made_for else ""
        kind = "" if self.artifact.output_kind.value == "low" else f"-{self.artifact.output_kind.value}"
        return self.out / f"{self.artifact.name}-{height}x{width}-int8{engine}{kind}.onnx"


@dataclass(frozen=True)
class Prepared:
    """A network ready to be written in INT8.

    Attributes:
        graph: float, equalised if asked.
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
    if wanted.form.vector > 1:
        graph = padded(graph, wanted.form.vector, chosen)
    seen = collect(graph, chosen, cache, wanted.ray)
    thresholds, plan = _fastest(wanted, graph, partial(_planned, wanted, graph, seen, chosen), chosen, say)
    if dead := [name for name, reach in thresholds.items() if not any(reach)]:
        say(f"{len(dead)} activations are zero on every calibration frame ({', '.join(sorted(dead)[:3])}, …)")
    if "rounding" in wanted.improve:
        if wide := sum(graph.nodes[node].op_type == "Conv" for node in plan.nodes) - len(searched(graph, plan)):
            say(f"{wide} layers have more than {INPUTS} weights for each output: theirs are rounded to the nearest")
        plan = rounded(graph, thresholds, plan, chosen)
    if "bias" in wanted.improve:
        plan = corrected(graph, thresholds, plan, chosen)
    return Prepared(graph, thresholds, plan, chosen, held_out)


def _planned(wanted: CalibrationRequest, graph: FloatGraph, seen: Mapping[str, Magnitudes], chosen: Chosen,
             form: Form) -> Planned:
    """The ranges of every tensor in a form, and everything that it makes an integer."""
    thresholds = choose_thresholds(wanted.method, seen, zero_points=form.is_unsigned(-1), unsigned=form.is_unsigned(0))
    channels = reaches(graph, thresholds, chosen) if form.channels else {}
    return thresholds, Plan(all_nodes(graph, form), form=form, channels=channels)


def _fastest(wanted: CalibrationRequest, graph: FloatGraph, planned: Callable[[Form], Planned], chosen: Chosen,
             say: Say) -> Planned:
    """The plan of a form, changed by what its engine is measured to be faster for on this machine."""
    best = planned(wanted.form)
    if wanted.form.zero_points == "unless slower":
        other = planned(replace(best[1].form, zero_points="never"))
        if _is_worth_it(wanted, graph, best, other, "without zero-points", COARSER, chosen, say):
            best = other
    if wanted.form.optional:
        other = planned(replace(best[1].form, operators=wanted.form.operators | wanted.form.optional))
        kinds = ", ".join(sorted({graph.by_node[node].role for node in other[1].nodes - best[1].nodes}))
        if kinds and _is_worth_it(wanted, graph, best, other, f"with {kinds} in integers, too,", OFTENER, chosen, say):
            best = other
    return best


def _is_worth_it(wanted: CalibrationRequest, graph: FloatGraph, one: Planned, other: Planned, what: str, below: float,
                 chosen: Chosen, say: Say) -> bool:
    before, after = (int8_from_float(graph, *each) for each in (one, other))
    if before == after:
        return False
    ratio, low, high = ratio_in_turns(wanted.artifact, before, after, wanted.made_for, chosen.read(0))
    taken = high < below
    say(f"{what} a frame takes {ratio:.3f} [{low:.3f}, {high:.3f}] times as long in {engines()[wanted.made_for].title} "
        f"here: {'taken' if taken else 'not taken'}, as it rounds more and has to be below {below:g}")
    return taken
