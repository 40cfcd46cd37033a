"""LiteRT as its users make it: `litert_torch.convert`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from export.quiet import quiet

if TYPE_CHECKING:
    from torch import Tensor, nn


def converted(network: nn.Module, x: Tensor, path: Path) -> None:
    """Write `network`, which takes `x`, to `path`."""
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    with quiet():
        import litert_torch

        path.write_bytes(litert_torch.convert(network.eval(), (x,)).model_content())
