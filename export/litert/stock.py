"""LiteRT as its users make it: `litert_torch.convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from export.litert.convert import converter
from export.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor, nn


def converted(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write `network`, which takes `x`, to `path`."""
    with quiet():
        path.write_bytes(converter().convert(network.eval(), (x,)).model_content())
