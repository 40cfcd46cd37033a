"""A Q/DQ graph simulated in float: it rounds exactly where the graph says so and multiplies in float32.

What an engine's integer kernels make of the same graph differs by the engine's doing, not by the quantisation's: they
may saturate, or round a little elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from runtime.sessions.onnx import library


class Simulated:
    """ONNX Runtime with everything but its Q/DQ fusions: Q/DQ pairs round, all else is float32.

    With `exact`, no optimisation at all takes place. Both agree to float rounding, which a test holds; the optimised
    one takes a third of the time.
    """

    reuses_output = False

    def __init__(self, model: onnx.ModelProto, *, exact: bool = False) -> None:
        ort = library()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # this is not timed, and may share
        if exact:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session: Any = ort.InferenceSession(model.SerializeToString(), options,
                                                  providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → the graph's first output."""
        return self.run_all(x)[0]

    def run_all(self, x: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """uint8 [1, H, W, 3] BGR → all of the graph's outputs."""
        outputs: list[npt.NDArray[Any]] = self._session.run(None, {self._input: x})
        return outputs

    def close(self) -> None:
        """Release the graph."""
        self._session = None


class Probe(Simulated):
    """Runs a graph in simulation and returns activations from its inside.

    Args:
        model: any float or Q/DQ graph; left as it is.
        names: the tensors to return, in this order.
    """

    def __init__(self, model: onnx.ModelProto, names: Sequence[str]) -> None:
        probed = onnx.ModelProto()
        probed.CopyFrom(model)
        del probed.graph.output[:]
        probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        super().__init__(probed, exact=True)
