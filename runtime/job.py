"""A frame on its way through the stream, and what it is when it has arrived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.overlay import Mask
from runtime.preprocess import Frame


@dataclass(frozen=True)
class StreamResult:
    """What one frame became.

    Attributes:
        index: the frame's number in the source; under `Policy.LATEST` numbers are missing where frames were dropped.
        timestamp: seconds since the source's beginning.
        frame: uint8 [H, W, 3] BGR, as it was read.
        mask: uint8 [H, W], the class index of every pixel.
        overlay: uint8 [H, W, 3] BGR, the frame tinted by class; None when drawing is off.
        stages_ms: milliseconds in each stage that the frame passed.
        age_ms: milliseconds from the moment the frame was there to the moment this result was.
        dropped: frames dropped so far.
    """

    index: int
    timestamp: float
    frame: Frame
    mask: Mask
    overlay: Frame | None
    stages_ms: dict[str, float]
    age_ms: float
    dropped: int


@dataclass
class Job:
    """A frame on its way. Each stage fills in what it makes.

    Attributes:
        index, timestamp, frame: as in `StreamResult`.
        arrived: `perf_counter()` when the frame was there.
        ms: milliseconds per stage so far.
        key: whether the network looks at this frame; otherwise its mask comes from an earlier one.
        flow: motion towards the key frame, for a frame that is no key itself.
        output: what the engine returned, without its batch dimension.
        mask, overlay: as in `StreamResult`.
    """

    index: int
    timestamp: float
    frame: Frame
    arrived: float
    ms: dict[str, float]
    key: bool = True
    flow: npt.NDArray[np.float32] | None = None
    output: npt.NDArray[Any] | None = None
    mask: Mask = field(default_factory=lambda: np.empty((0, 0), np.uint8))
    overlay: Frame | None = None
