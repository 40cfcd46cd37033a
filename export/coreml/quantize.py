"""Smaller Core ML packages: INT8 activations and weights, INT8 weights alone, palettes of 16 or 64 values.

coremltools calibrates activations by running the model through Core ML, on a Mac only. Here the ranges come from the
reference evaluator, which sees the program's own tensors, and enter coremltools through the one seam in this file
(`_ranges_given`). That is also the better source: coremltools 9.0 keeps the range of the last frame alone, because
`_update_tensor_range` overwrites before it compares.

Weights need no data, and coremltools' public functions.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.cli import progress
from runtime.errors import UserError

if TYPE_CHECKING:
    import torch

    from export.coreml.reference import Evaluator, MilProgram
    from export.coreml.reference.read import Operation
    from export.coreml.reference.session import ReferenceSession
    from runtime.preprocess import Preprocess

Range = tuple[float, float]

SHARE = 0.9999
"""Share of a tensor's values, on each side, that a frame's range must hold; the outermost 0.01 % are cut off."""

SMALLEST = 1e-4
"""Half-width below which a range is widened: float16 has no scale for less, and coremltools refuses a scale of 0."""

LARGEST = 65504.0
"""coremltools brings ranges to float16."""

QUANTISED = {"conv", "linear", "add", "avg_pool", "max_pool", "concat",
             "relu", "relu6", "leaky_relu", "tanh", "scaled_tanh", "sigmoid"}
"""Operations whose inputs and results coremltools quantises (its prefix and suffix passes), or whose ranges it ties."""

MIN_WEIGHTS = 512
"""Smaller weight tensors stay float: a scale or palette each would cost more than it saves."""

FEW = 32
"""Calibration frames below which ranges are mostly chance; a larger folder is sampled evenly down to it."""

SEAM = ("coremltools.optimize.coreml._post_training_quantization", "_get_activation_calibration_stats")
SEAM_PARAMETERS = ["fpmodel", "sample_data", "calibration_op_group_size"]
TESTED = "9.0"


def compressed(model: Any, precision: str, session: ReferenceSession, preprocess: Preprocess,
               calibration: Sequence[Path]) -> tuple[Any, dict[str, Any]]:
    """A float16 model made smaller.

    Args:
        model: MLModel, not changed.
        precision: "int8", "w8", "palette4" or "palette6".
        session: the same model as saved, in the evaluator.
        preprocess: brings calibration frames to size.
        calibration: images for "int8"; unused otherwise.

    Returns:
        The model, and the record of its calibration (empty where there was none).
    """
    if precision.startswith("palette"):
        return palettised_weights(model, int(precision.removeprefix("palette"))), {}
    if precision == "w8":
        return quantised_weights(model), {}
    from runtime.video import read_image

    ranges = activation_ranges(session.evaluator, (session.inputs(preprocess(read_image(path)))
                                                   for path in progress(calibration, len(calibration), "calibrating")))
    digest = hashlib.sha256()
    for path in calibration:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return quantised_weights(quantised_activations(model, ranges, leading(session.evaluator.program))), {
        "frames": len(calibration), "sha256": digest.hexdigest(),
        "method": f"percentile {100 * SHARE:.2f} of each frame, widest over all frames, symmetric INT8",
        "source": "reference evaluator on the saved float16 program"}


def calibration_frames(folder: Path | None, allow_few: bool) -> list[Path]:
    """The images that INT8 is calibrated with.

    Raises:
        UserError: no folder, no images, or fewer than `FEW` of them without `allow_few`.
    """
    from calibration.data.frames import evenly_spaced
    from runtime.video import image_paths

    if folder is None:
        raise UserError("--precision int8 needs frames to learn the activations' ranges from; expected --calibration",
                        try_="--calibration DIR with a few dozen photos of the scene, or --precision w8")
    paths = image_paths(folder)
    if len(paths) < FEW and not allow_few:
        raise UserError(f"{folder} holds {len(paths)} images; expected {FEW} or more, as ranges from so few are "
                        "mostly chance", try_="--allow-few, if there are no more")
    return evenly_spaced(paths, FEW)


def activation_ranges(evaluator: Evaluator, inputs: Iterable[Mapping[str, Any]]) -> dict[str, Range]:
    """The range of every tensor that coremltools may quantise.

    Args:
        evaluator: the float program.
        inputs: one mapping per calibration frame, as the evaluator takes it.

    Returns:
        Name → (low, high): per frame the values that enclose `SHARE` of the tensor on either side, over all frames the
        widest. Tensors that meet in a concat share theirs, so that the integers can be copied.
    """
    ranges: dict[str, Range] = {}
    wanted = {name for op in evaluator.program.operations if op.kind in QUANTISED
              for name in [*(n for argument in op.arguments.values() for n in argument), *(n for n, _ in op.outputs)]
              if isinstance(name, str)}

    def look(name: str, value: torch.Tensor) -> None:
        if name in wanted:
            low, high = ranges.get(name, (float("inf"), float("-inf")))
            ranges[name] = min(low, -_upper(-value)), max(high, _upper(value))

    for frame in inputs:
        evaluator(frame, observe=look)
    return {name: _usable(*found) for name, found in _shared_in_concats(evaluator.program, ranges).items()}


def _upper(value: torch.Tensor) -> float:
    """The value that `SHARE` of the elements do not exceed."""
    flat = value.reshape(-1)
    above = max(int(flat.numel() * (1 - SHARE)), 1)
    return float(flat.topk(above).values[-1])


def _usable(low: float, high: float) -> Range:
    half = max(abs(low), abs(high))
    if half < SMALLEST:
        return -SMALLEST, SMALLEST
    return max(low, -LARGEST), min(high, LARGEST)


def _shared_in_concats(program: MilProgram, ranges: Mapping[str, Range]) -> dict[str, Range]:
    groups: list[set[str]] = []
    for op in program.operations:
        if op.kind == "concat":
            group = {n for n in op.arguments["values"] if isinstance(n, str)} | {name for name, _ in op.outputs}
            touching = [g for g in groups if g & group]
            groups = [g for g in groups if not g & group] + [group.union(*touching)]
    shared = dict(ranges)
    for group in groups:
        known = [ranges[name] for name in group if name in ranges]
        for name in group & ranges.keys():
            shared[name] = min(low for low, _ in known), max(high for _, high in known)
    return shared


def leading(program: MilProgram) -> list[str]:
    """The convolution that reads the frame, and a depthwise one that reads its activation function; by what they write.
    `runtime.forms` says why both stay in float."""
    written = {name for op in program.operations if op.kind != "const" for name, _ in op.outputs}
    first, behind = list[str](), set[str]()
    for op in program.operations:
        read = {name for argument in op.arguments.values() for name in argument if isinstance(name, str)} & written
        results = {name for name, _ in op.outputs}
        if op.kind == "conv" and not first:
            first, behind = sorted(results), results
        elif op.kind == "conv" and read <= behind and _is_depthwise(program, op):
            first += sorted(results)
        elif op.kind not in ("conv", "linear", "matmul") and read and read <= behind:
            behind = behind | results
    return first


def _is_depthwise(program: MilProgram, op: Operation) -> bool:
    shapes = {name: kind.shape for each in program.operations for name, kind in each.outputs}
    weight = shapes[op.arguments["weight"][0]]
    return weight[1] == 1 and weight[0] != 1


def quantised_activations(model: Any, ranges: Mapping[str, Range], spared: Sequence[str] = ()) -> Any:
    """Put symmetric INT8 quantise/dequantise pairs around convolutions, poolings, linear layers and additions.

    Args:
        model: float MLModel, not changed.
        ranges: of all its tensors.
        spared: operations that stay in float, by what they write.

    Raises:
        UserError: this coremltools has no seam for ranges, or ignores it.
    """
    import coremltools.optimize.coreml as cto

    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(mode="linear_symmetric"),
                                    op_name_configs=dict.fromkeys(spared))
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
