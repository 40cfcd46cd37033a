"""From a network's name to the network: one file for each place where networks come from.

    lraspp                            listed in `export/models/`
    package.module:builder@my.toml    a function of the user's, called as `builder(classes=N, **options)`
    my.onnx or my.onnx@my.toml        an existing ONNX file: float NCHW, normalised → float NCHW logits
    my.toml                           either of them, named in the TOML as `builder` or `onnx`
    torchvision:fcn_resnet50          torchvision's segmentation networks
    smp:Unet?encoder_name=resnet18    segmentation_models_pytorch, options behind the question mark
    hf:FOLDER or hf:OWNER/NAME        transformers' networks for semantic segmentation

`--spec my.toml` says the same as `@my.toml`; its keys are those of `export.origins.toml.KEYS`. A library's network
needs none: what a TOML would state is found out, and one that is given overrides it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export.origins import builder, hf, listed, onnx_file, smp, toml, torchvision
from export.origins.listed import names
from export.origins.origin import Checkpoint, Origin

__all__ = ["Checkpoint", "Origin", "find", "names"]

KINDS: tuple[tuple[Callable[[str], bool], Callable[[str, Path | None], Origin]], ...] = tuple(
    (kind.takes, kind.origin) for kind in (onnx_file, torchvision, smp, hf, builder))
"""In the order in which they are asked: any name with a colon is a builder's in the end."""


def find(name: str) -> Origin:
    """The network called `name`.

    Raises:
        UserError: there is none, and the message names the nearest match; or its TOML is missing or cannot be used.
    """
    target, stated = toml.split(name)
    for takes, origin in KINDS:
        if takes(target):
            return origin(target, stated)
    return listed.origin(target)
