"""Smaller Core ML packages: INT8 activations and weights, INT8 weights alone, palettes of 16 or 64 values.

coremltools calibrates activations by running the model through Core ML, on a Mac only. Here the tensors come from the
reference evaluator, which sees the program's own, their ranges from `calibration.quantise`, as for every other engine,
and they enter coremltools through the one seam in this file (`_ranges_given`). That is also the better source:
coremltools 9.0 keeps the range of the last frame alone, because `_update_tensor_range` overwrites before it compares.

Joins stay in float, as coremltools gives all that is joined one range, and along chains of joins all of them: beside
what reaches 1000 in DFANet A, nothing was left of a map that ends at 11 (52.6 % of pixels kept their class).

Weights need no data, and coremltools' public functions.
"""

from __future__ import annotations

import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runtime.cli import progress
from runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from calibration.data.coverage import Chosen
    from export.coreml.reference import Evaluator, MilProgram
    from export.coreml.reference.read import Operation
    from export.coreml.reference.session import ReferenceSession

Range = tuple[float, float]

SMALLEST = 1e-4
"""Half-width below which a range is widened: float16 has no scale for less, and coremltools refuses a scale of 0."""

LARGEST = 65504.0
"""coremltools brings ranges to float16."""

QUANTISED = {"conv", "linear", "add", "avg_pool", "max_pool", "concat",
             "relu", "relu6", "leaky_relu", "tanh", "scaled_tanh", "sigmoid"}
"""Operations whose inputs and results coremltools quantises (its prefix and suffix passes) unless it is told not to."""

UNEVEN = 8
"""How many times as far as another one of the joined maps may reach before what reads the join stays in float."""

MIN_WEIGHTS = 512
"""Smaller weight tensors stay float: a scale or palette each would cost more than it saves."""

SEAM = ("coremltools.optimize.coreml._post_training_quantization", "_get_activation_calibration_stats")
SEAM_PARAMETERS = ["fpmodel", "sample_data", "calibration_op_group_size"]
TESTED = "9.0"


def compressed(model: Any, precision: str, session: ReferenceSession,
               calibration: Chosen | None) -> tuple[Any, dict[str, Any]]:
    """A float16 model made smaller.

    Args:
        model: MLModel, not changed.
        precision: "int8", "w8", "palette4" or "palette6".
        session: the same model as saved, in the evaluator.
        calibration: frames for "int8"; None otherwise.

    Returns:
        The model, and the record of its calibration (empty where there was none).
    """
    from export.calibrated import record

    if precision.startswith("palette"):
        return palettised_weights(model, int(precision.removeprefix("palette"))), {}
    if calibration is None:
        return quantised_weights(model), {}
    count = len(calibration.paths)
    ranges = activation_ranges(session.evaluator, (
        session.inputs(calibration.read(i)) for i in progress(range(count), count, "calibrating")))
    return (quantised_weights(quantised_activations(model, ranges, spared(session.evaluator.program, ranges))),
            record(calibration, "the float16 program's own tensors in the reference evaluator"))


def activation_ranges(evaluator: Evaluator, inputs: Iterable[Mapping[str, Any]]) -> dict[str, Range]:
    """The range of every tensor that coremltools may quantise.

    Args:
        evaluator: the float program.
        inputs: one mapping per calibration frame, as the evaluator takes it.

    Returns:
        Name → (low, high), as `calibration.quantise.thresholds` cuts it.

    Raises:
        UserError: a tensor holds NaN or infinity on a frame.
    """
    import numpy as np

    from calibration.quantise.ranges import Magnitudes, check_finite
    from calibration.quantise.thresholds import choose
    from export.calibrated import METHOD

    seen = defaultdict[str, Magnitudes](Magnitudes.empty)
    wanted = {name for op in evaluator.program.operations if op.kind in QUANTISED
              for name in [*(n for argument in op.arguments.values() for n in argument), *(n for n, _ in op.outputs)]
              if isinstance(name, str)}

    def look(name: str, value: torch.Tensor) -> None:
        if name not in wanted:
            return
        values = value.numpy().astype(np.float32)
        check_finite(name, values)
        seen[name].add(values)

    for frame in inputs:
        evaluator(frame, observe=look)
    return {name: _usable(*found) for name, found in choose(METHOD, seen).items()}


def _usable(low: float, high: float) -> Range:
    half = max(abs(low), abs(high))
    if half < SMALLEST:
        return -SMALLEST, SMALLEST
    return max(low, -LARGEST), min(high, LARGEST)


def spared(program: MilProgram, ranges: Mapping[str, Range]) -> list[str]:
    """The operations that stay in float although coremltools has integers for them, by what they write.

    These are the convolution that reads the frame and a depthwise one right behind it, where there is one
    (`runtime.forms` says why), and what reads a join of maps of very different ranges, as one scale for all leaves
    nothing of the smaller ones.
    """
    first = next(([name for name, _ in op.outputs] for op in program.operations if op.kind == "conv"), [])
    second = [op for op in _reading(program, first, wholly=True) if op.kind == "conv" and _is_depthwise(program, op)]
    reach = {name: max(map(abs, found)) for name, found in ranges.items()}
    joins = [op.outputs[0][0] for op in program.operations if op.kind == "concat"
             and (joined := [reach[name] for name in op.arguments["values"] if name in reach])
             and max(joined) > UNEVEN * min(joined)]
    readers = [op for op in _reading(program, joins) if op.kind in QUANTISED]
    return [*(first if second else []), *(name for op in (*second, *readers) for name, _ in op.outputs)]


def _reading(program: MilProgram, names: Sequence[str], wholly: bool = False) -> list[Operation]:
    """Convolutions and products that read one of the tensors, or what other operations make of it, and these others;
    `wholly` those that read nothing else."""
    written = {name for op in program.operations if op.kind != "const" for name, _ in op.outputs}
    reached, found = set(names), []
    for op in program.operations:
        read = {name for argument in op.arguments.values() for name in argument if isinstance(name, str)} & written
        if read and (read <= reached if wholly else read & reached):
            found.append(op)
            if op.kind not in ("conv", "linear", "matmul"):
                reached |= {name for name, _ in op.outputs}
    return found


def _is_depthwise(program: MilProgram, op: Operation) -> bool:
    shapes = {name: kind.shape for each in program.operations for name, kind in each.outputs}
    weight = shapes[op.arguments["weight"][0]]
    return weight[1] == 1 and weight[0] != 1


def quantised_activations(model: Any, ranges: Mapping[str, Range], in_float: Sequence[str]) -> Any:
    """Put symmetric INT8 quantise/dequantise pairs around convolutions, poolings, linear layers and additions, but not
    around joins.

    Args:
        model: float MLModel, not changed.
        ranges: of all its tensors.
        in_float: operations that stay in float, by what they write.

    Raises:
        UserError: this coremltools has no seam for ranges, or ignores it.
    """
    import coremltools.optimize.coreml as cto

    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"),
                                    op_name_configs=dict.fromkeys(in_float), op_type_configs={"concat": None})
    with _ranges_given(ranges):
        return cto.linear_quantize_activations(model, config, [{}])


@contextmanager
def _ranges_given(ranges: Mapping[str, Range]) -> Iterator[None]:
    """Answer coremltools' question for calibration statistics with our ranges, as long as the context lasts."""
    from coremltools import __version__

    advice = f"pip install coremltools=={TESTED}, or --precision w8, which needs no ranges"
    module = importlib.import_module(SEAM[0])
    original = getattr(module, SEAM[1], None)
    if original is None or list(inspect.signature(original).parameters) != SEAM_PARAMETERS:
        raise UserError(f"coremltools {__version__} does not calibrate through {SEAM[1]} as version {TESTED} did, so "
                        "that activation ranges cannot be given to it", try_=advice)
    asked = False

    def ours(fpmodel: Any, sample_data: Any, calibration_op_group_size: int = -1) -> dict[str, dict[str, float]]:
        nonlocal asked
        asked = True
        return {name: {"rmin": low, "rmax": high} for name, (low, high) in ranges.items()}

    setattr(module, SEAM[1], ours)
    try:
        yield
    finally:
        setattr(module, SEAM[1], original)
    if not asked:
        raise UserError(f"coremltools {__version__} did not use the activation ranges that were computed here",
                        try_=advice)


def quantised_weights(model: Any) -> Any:
    """Store weights as INT8 with one scale per output channel."""
    import coremltools.optimize.coreml as cto

    return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", weight_threshold=MIN_WEIGHTS)))


def palettised_weights(model: Any, bits: int) -> Any:
    """Store weights as indices into a palette of 2^bits values per tensor, found by k-means."""
    import coremltools.optimize.coreml as cto

    return cto.palettize_weights(model, cto.OptimizationConfig(global_config=cto.OpPalettizerConfig(
        mode="kmeans", nbits=bits, weight_threshold=MIN_WEIGHTS)))
