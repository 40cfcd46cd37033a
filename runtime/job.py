"""A frame on its way through the stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.overlay import Mask
from runtime.preprocess import Frame


@dataclass
class FrameJob:
    """A frame on its way. Each stage fills in what it makes.

    Attributes:
        index, timestamp, frame: as in `runtime.result.StreamResult`.
        arrived: `perf_counter()` when the frame was there.
        ms: milliseconds per stage so far.
        key: whether the network looks at this frame; otherwise its mask comes from an earlier one.
        flow: motion towards the key frame, for a frame that is no key itself.
        output: what the engine returned, without its batch dimension.
        mask, overlay: as in `runtime.result.StreamResult`.
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
