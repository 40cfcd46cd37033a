"""Simplify an ONNX graph with onnxsim: constants folded, shapes inferred, batch norms merged, no-ops removed."""

from __future__ import annotations

import onnx

from export.quiet import reason
from runtime.errors import GateFailed


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """A simplified copy of `model`, which is left as it was.

    Raises:
        GateFailed: onnxsim broke off, or its own comparison on random input failed.
    """
    import onnxsim

    try:
        result, agrees = onnxsim.simplify(model, check_n=0)
    except Exception as error:  # onnxsim raises whatever its C++ core throws
        raise GateFailed(f"onnxsim {onnxsim.__version__} cannot simplify the graph ({reason(error)})",
                         try_="--no-simplify, which keeps the graph as torch wrote it") from error
    if not agrees:
        raise GateFailed(f"onnxsim {onnxsim.__version__} changed the graph's results",
                         try_="--no-simplify, which keeps the graph as torch wrote it")
    simpler: onnx.ModelProto = result
    return simpler
