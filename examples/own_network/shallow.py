"""A network of your own: any function that returns an `nn.Module` will do.

It is called as `shallow(classes=N)` plus the `[options]` of `shallow.toml`, and maps normalised float NCHW frames to
float NCHW logits at 1/4 of the input size.
"""

from __future__ import annotations

from torch import nn


def shallow(classes: int, width: int = 16) -> nn.Module:
    """Two strided convolutions and a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(width, classes, 1))
