"""Engines that compute on planes, [1, C, H, W]: what their sessions do outside, and how their logits are verified."""

from __future__ import annotations

import numpy as np

from export.verify import Run
from runtime.artifact import OutputKind

OUTSIDE = "bytes, channels last → float32 planes"
"""What a session does with a frame, because the engine's graphs cannot or are slow at it."""


def classes_last(run: Run, output: OutputKind) -> Run:
    """A run whose low-resolution logits are planes, [1, C, h, w], as a verifier compares them: [1, h, w, C]."""
    return (lambda x: np.moveaxis(run(x), 1, 3)) if output is OutputKind.LOW else run
