"""From a network's name to the network: one file for each place where networks come from.

    lraspp                            listed in `export/models/`
    package.module:builder@my.toml    a function of the user's, called as `builder(classes=N, **options)`
    my.onnx or my.onnx@my.toml        an existing ONNX file: float NCHW, normalised → float NCHW logits
    my.toml                           either of them, named in the TOML as `builder` or `onnx`

`--spec my.toml` says the same as `@my.toml`; its keys are those of `export.origins.toml.KEYS`.
"""

from __future__ import annotations

from export.origins import builder, listed, onnx_file, toml
from export.origins.listed import names
from export.origins.origin import Checkpoint, Origin

__all__ = ["Checkpoint", "Origin", "find", "names"]


def find(name: str) -> Origin:
    """The network called `name`.

    Raises:
        UserError: there is none, and the message names the nearest match; or its TOML is missing or cannot be used.
    """
    target, stated = toml.split(name)
    if onnx_file.takes(target):
        return onnx_file.origin(target, stated)
    if builder.takes(target):
        return builder.origin(target, stated)
    return listed.origin(target)
