"""What is to be quantised, and the network made ready for it: frames chosen, ranges found, improvements carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
from calibration.quantise.ranges import collect
from calibration.quantise.rounding import INPUTS, rounded, searched
from calibration.quantise.thresholds import Range
from calibration.quantise.thresholds import choose as choose_thresholds
from calibration.source import load_onnx
from runtime.artifact import Artifact
from runtime.forms import PORTABLE, Form
from runtime.sessions import engines

Say = Callable[[str], None]


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
    thresholds = choose_thresholds(wanted.method, seen, zero_points=wanted.form.integers == "unsigned")
    channels = reaches(graph, thresholds, chosen) if wanted.form.channels else {}
    plan = _faster(wanted, graph, thresholds, Plan(all_nodes(graph, wanted.form), form=wanted.form, channels=channels),
                   chosen, say)
    if dead := [name for name, reach in thresholds.items() if not any(reach)]:
        say(f"{len(dead)} activations are zero on every calibration frame ({', '.join(sorted(dead)[:3])}, …)")
    if "rounding" in wanted.improve:
        if wide := sum(graph.nodes[node].op_type == "Conv" for node in plan.nodes) - len(searched(graph, plan)):
            say(f"{wide} layers have more than {INPUTS} weights for each output: theirs are rounded to the nearest")
        plan = rounded(graph, thresholds, plan, chosen)
    if "bias" in wanted.improve:
        plan = corrected(graph, thresholds, plan, chosen)
    return Prepared(graph, thresholds, plan, chosen, held_out)


def _faster(wanted: CalibrationRequest, graph: FloatGraph, thresholds: Mapping[str, Range], plan: Plan, chosen: Chosen,
            say: Say) -> Plan:
    """The plan, or the one with its form's optional operators where a frame takes less time so, beyond doubt."""
    form = replace(plan.form, operators=plan.form.operators | plan.form.optional)
    wider = replace(plan, nodes=all_nodes(graph, form), form=form)
    if wider.nodes == plan.nodes:
        return plan
    one, other = (int8_from_float(graph, thresholds, each) for each in (plan, wider))
    ratio, low, high = ratio_in_turns(wanted.artifact, one, other, wanted.made_for, chosen.read(0))
    kinds = ", ".join(sorted({graph.by_node[node].role for node in wider.nodes - plan.nodes}))
    taken = high < 1
    say(f"with {kinds} in integers, too, a frame takes {ratio:.3f} [{low:.3f}, {high:.3f}] times as long in "
        f"{engines()[wanted.made_for].title} here: they are {'integers' if taken else 'left in float'}")
    return wider if taken else plan
