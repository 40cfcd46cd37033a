"""From a camera frame to the engine's input: the one implementation for calibration, accuracy and runtime."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np
import numpy.typing as npt

from runtime.decode import Number, Positive, Side
from runtime.errors import UserError

Frame = npt.NDArray[np.uint8]
"""An image as OpenCV delivers it: uint8 [H, W, 3], BGR, 0..255."""


class Interpolation(str, Enum):
    """How a frame is brought to the network's input size."""

    LINEAR = "linear"
    AREA = "area"
    NEAREST = "nearest"


@dataclass(frozen=True)
class Preprocess:
    """What a network expects of its input.

    Resizing happens on the host. Colour order, mean and std are carried out inside the exported graph, whose input
    is always uint8 NHWC BGR; they are recorded here because other targets and people need them.

    Attributes:
        size: network input (H, W) in pixels.
        mean: per channel in the network's colour order, in units of 0..1.
        std: per channel in the network's colour order, in units of 0..1.
        colour_order: "rgb" or "bgr", the order the network was trained with.
        interpolation: how a frame of another size is resized.
    """

    size: tuple[Side, Side]
    mean: tuple[Number, Number, Number] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    colour_order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Interpolation = Interpolation.LINEAR

    def __call__(self, frame: Frame) -> Frame:
        """Resize one frame.

        Args:
            frame: uint8 [h, w, 3] BGR, any size.

        Returns:
            uint8 [1, H, W, 3] BGR, contiguous; a view of `frame` when its size is already right.

        Raises:
            UserError: `frame` is not uint8 [h, w, 3].
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise UserError(f"a frame of shape {frame.shape} and dtype {frame.dtype} was received; "
                            "expected uint8 [height, width, 3] in BGR order, as cv2.imread returns it")
        height, width = self.size
        if frame.shape[:2] != (height, width):
            frame = _resize(frame, width, height, self.interpolation)
        return np.ascontiguousarray(frame)[np.newaxis]


def _resize(frame: Frame, width: int, height: int, interpolation: Interpolation) -> Frame:
    import cv2  # here, because specs and --help need Preprocess but no OpenCV

    flags = {Interpolation.LINEAR: cv2.INTER_LINEAR, Interpolation.AREA: cv2.INTER_AREA,
             Interpolation.NEAREST: cv2.INTER_NEAREST}
    return np.asarray(cv2.resize(frame, (width, height), interpolation=flags[interpolation]), dtype=np.uint8)
