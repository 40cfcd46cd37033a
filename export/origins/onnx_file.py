"""An existing ONNX file as a network: `my.onnx`, described by `my.toml` beside it or by `--spec`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from export.origins import toml
from export.origins.origin import Checkpoint, Origin

if TYPE_CHECKING:
    from torch import nn


def takes(target: str) -> bool:
    """Whether `target` is an ONNX file's name."""
    return target.endswith(".onnx")


def origin(target: str, stated: Path | None) -> Origin:
    """The network in the file `target`.

    Raises:
        UserError: there is no TOML, or it cannot be used.
    """
    path = Path(target)
    stated = stated or path.with_suffix(".toml")
    entry = toml.spec(target, stated)

    def build(classes: int) -> nn.Module:
        from export.origins.onnx_network import OnnxNetwork

        return OnnxNetwork(path)

    def own_weights() -> Checkpoint:
        from export.origins.onnx_network import weights_of

        return Checkpoint(path.name, weights_of(path), hashlib.sha256(path.read_bytes()).hexdigest(), entry.licence,
                          len(entry.classes.names))

    return Origin(entry, build, stated_in=str(stated), own_weights=own_weights)
