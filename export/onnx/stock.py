"""ONNX as its users make it: torch's exporter, then onnxsim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def converted(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write `network`, which takes `x`, to `path`."""
    import onnx
    import torch

    from export.onnx.simplify import simplified
    from export.quiet import quiet

    with quiet():
        program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    assert program is not None
    onnx.save_model(simplified(program.model_proto), path)
