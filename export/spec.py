"""What a network is: values without behaviour.

A family file in `export/models/` states its networks with these names and no others (see `export.origins.listed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calibration.data.label_sets import CAMVID, CITYSCAPES, VOC, Classes
from runtime.preprocess import Interpolation, Preprocess

__all__ = ["CAMVID", "CITYSCAPES", "VOC", "Classes", "Interpolation", "ModelSpec", "Preprocess", "Published"]


@dataclass(frozen=True)
class Published:
    """A published figure: what, how much, under which conditions, where."""

    metric: str
    value: float
    conditions: str
    source: str


@dataclass(frozen=True)
class ModelSpec:
    """One network.

    Attributes:
        name: what people type.
        builder: name of a function or class in the family file (what `export.origins.find` was given, where the
            network is not of ours); called as `builder(classes=N, **options)`, it returns an `nn.Module` that maps
            float NCHW (normalised as `preprocess` says) to float NCHW logits at 1/`stride` of the input, before any
            final upsampling.
        preprocess: input size (H, W), mean, std, colour order.
        classes: the label set that its weights were trained for by default.
        stride: input pixels per cell of the low-resolution logits.
        align_corners: the convention of the final bilinear upsampling.
        multiple: height and width must be multiples of this.
        parameters: count, with `classes` classes, recomputed by a test.
        gmacs: multiply-accumulates in 10⁹ at `counted_at`, convolutions and matrix products only; recomputed by a
            test.
        counted_at: (H, W) of `gmacs`.
        published: what others measured.
        weights: name → (download address, sha256) of published checkpoints; where only the leading hexadecimal digits
            of the hash are known (torchvision puts eight into the file name), those.
        licence: of the architecture's reference code.
        paper: title, venue, year and address.
        options: keyword arguments for the builder.
        note: anything a user must know, such as a count that cannot be reproduced.
    """

    name: str
    builder: str
    preprocess: Preprocess
    classes: Classes
    stride: int
    align_corners: bool
    multiple: int
    parameters: int
    gmacs: float
    counted_at: tuple[int, int]
    licence: str
    paper: str
    published: tuple[Published, ...] = ()
    weights: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
