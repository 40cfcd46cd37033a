"""Smaller .tflite files: float16 weights, or INT8 throughout with the ranges that this project's calibration finds.

Google's quantiser writes the file; it takes the range of every tensor from outside. Ours come from the float file's own
tensors, counted by `calibration.quantise.ranges` on frames chosen by `calibration.data.coverage` and cut by
`calibration.quantise.thresholds`, as they are for every other engine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calibration.quantise.ranges import Magnitudes, check_finite
from calibration.quantise.thresholds import Range
from export.quiet import quiet
from runtime.sessions.litert import bare_interpreter
from runtime.tune import cores

if TYPE_CHECKING:
    from runtime.preprocess import Frame

INT8 = (
    {"regex": ".*", "operation": "*", "algorithm_key": "min_max_uniform_quantize", "op_config": {
        "activation_tensor_config": {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"},
        "weight_tensor_config": {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"},
        "compute_precision": "INTEGER", "explicit_dequantize": False}},
    {"regex": ".*", "operation": "OUTPUT", "algorithm_key": "no_quantize"},
)
"""Recipe of the quantiser: everything it can, but for the result, which stays what the artifact says it is."""

FLOAT16 = (
    {"regex": ".*", "operation": "*", "algorithm_key": "float_casting", "op_config": {
        "weight_tensor_config": {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"},
        "compute_precision": "FLOAT", "explicit_dequantize": True}},
)
"""Recipe of the quantiser: float16 weights, which a GPU or NPU computes with and a CPU widens."""


def observed(model: bytes, frames: Iterable[Frame]) -> dict[str, Magnitudes]:
    """Every float tensor that an operator of the model makes, by name.

    Args:
        model: a float .tflite file.
        frames: uint8 [1, H, W, 3] BGR at the network's size.

    Raises:
        UserError: a tensor holds NaN or infinity.
    """
    found = defaultdict[str, Magnitudes](Magnitudes.empty)
    for name, values in _computed(model, frames):
        found[name].add(values)
    return dict(found)


def largest_by_channel(model: bytes, frames: Iterable[Frame]) -> dict[str, npt.NDArray[np.float32]]:
    """[C] largest magnitude of each channel of these tensors; arguments and errors as of `observed`."""
    found = dict[str, npt.NDArray[np.float32]]()
    for name, values in _computed(model, frames):
        largest = np.abs(values.reshape(-1, values.shape[-1])).max(0)
        found[name] = np.maximum(found.get(name, largest), largest)
    return found


def _computed(model: bytes, frames: Iterable[Frame]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    interpreter = bare_interpreter(model, num_threads=cores(), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    made = {int(index) for op in interpreter._get_ops_details() for index in op["outputs"]}
    tensors = [entry for entry in interpreter.get_tensor_details()
               if entry["index"] in made and entry["dtype"] == np.float32]
    for frame in frames:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], frame)
        interpreter.invoke()
        for entry in tensors:
            values = interpreter.get_tensor(entry["index"])
            check_finite(entry["name"], values)
            yield entry["name"], values


def int8_from_float(model: bytes, ranges: Mapping[str, Range]) -> bytes:
    """INT8 activations, and INT8 weights with a scale for each channel; frame and result stay as they are.

    Args:
        model: a float .tflite file.
        ranges: of its tensors, by name.
    """
    return _quantised(model, INT8, {name: {"min": np.array([low], np.float32), "max": np.array([high], np.float32)}
                                    for name, (low, high) in ranges.items()})


def float16_from_float(model: bytes) -> bytes:
    """Weights stored as float16. A CPU without float16 arithmetic brings them back to float32 when it loads them."""
    return _quantised(model, FLOAT16, None)


def _quantised(model: bytes, recipe: Sequence[Mapping[str, Any]], ranges: Mapping[str, Any] | None) -> bytes:
    with quiet():
        from ai_edge_quantizer.quantizer import Quantizer

        result = Quantizer(model, list(recipe)).quantize(ranges, enable_progress_report=False)
    return bytes(result.quantized_model)
