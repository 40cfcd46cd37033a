"""Time as a help: masks that follow the motion between key frames, and masks that do not flicker.

Both rest on dense optical flow (DIS: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016), of
a small gray picture, always from the current frame to the last one that the network saw, its key frame:

- `every` N: the network sees every Nth frame only; the masks in between are the key frame's, moved along the flow.
- `smooth`: a key frame's logits are blended with the last key frame's, moved along the flow, so that a pixel of the
  scene changes its class only when the network has changed its mind, not when it wavers.

Where the flow cannot explain a frame, the scene has changed: that frame is a key frame, and nothing is blended into it.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact, OutputKind
from runtime.errors import UserError
from runtime.job import FrameJob
from runtime.mask import planes
from runtime.overlay import Mask
from runtime.preprocess import Frame

Flow = npt.NDArray[np.float32]
"""float32 [h, w, 2]: pixel (x, y) of the current small picture looks like (x, y) + flow of the key frame's."""

WIDTH = 240
"""Width of the picture that motion is looked for in; on CamVid, twice as many pixels gain 0.1 points of mIoU."""

_LEAST, _MOST = 64, 1000
"""Height and width of that picture stay in between. DIS chooses its coarsest scale by the width alone; where fewer than
8 rows are left there, one patch, it reads outside the picture (OpenCV 5.0 crashes on 16 x 240)."""

SURPRISE = 16.0
"""Mean difference in gray levels, after the warp, that makes a new scene. On CamVid, four frames (0.27 s) on differ by
13 at most, fifty frames on by 20 at least, and another scene by 38."""

BLEND = 0.5
"""Share of the new logits in smoothed ones."""


class Temporal:
    """Decides which frames the network sees, and makes the masks of the others.

    Args:
        artifact: what the engine returns.
        every: the network sees every so many frames; 1 for each.
        warp: whether masks in between follow the motion; without, they are the key frame's as it was.
        smooth: whether logits are blended over time.

    Raises:
        UserError: `smooth` with an artifact that returns classes, which cannot be blended.
    """

    def __init__(self, artifact: Artifact, *, every: int = 1, warp: bool = True, smooth: bool = False) -> None:
        if smooth and artifact.output_kind is OutputKind.CLASSES:
            raise UserError(f"smoothing needs logits, and {artifact.file} returns classes",
                            try_=f"python -m export.{artifact.target} {artifact.name} --output low")
        assert every >= 1
        self._every, self._warp, self._smooth = every, warp, smooth
        self._layout = artifact.output.layout
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        # Of the key frame, as `plan` sees it, which runs ahead.
        self._gray: npt.NDArray[np.uint8] | None = None
        self._size: tuple[int, ...] = ()
        self._age = 0
        # Of the key frame, as the end of the stream sees it.
        self._mask: Mask | None = None
        self._logits: npt.NDArray[np.float32] | None = None

    def plan(self, job: FrameJob) -> None:
        """Decide whether the network sees this frame, and measure its motion since the key frame."""
        start = perf_counter()
        gray = small_gray(job.frame)
        self._age += 1
        if self._gray is not None and self._size == job.frame.shape:
            flow = np.asarray(self._dis.calc(gray, self._gray, None), dtype=np.float32)  # type: ignore[call-overload]
            job.flow = flow if surprise(self._gray, gray, flow) <= SURPRISE else None
        job.key = job.flow is None or self._age >= self._every
        if job.key:
            self._gray, self._size, self._age = gray, job.frame.shape, 0
        job.ms["plan"] = 1e3 * (perf_counter() - start)

    def blend(self, job: FrameJob) -> None:
        """Smooth a key frame's logits, in place of `job.output`."""
        if not self._smooth:
            return
        assert job.output is not None
        logits = np.moveaxis(planes(job.output, self._layout), 0, -1)
        if job.flow is not None and self._logits is not None:
            logits = BLEND * logits + np.float32(1 - BLEND) * warp_logits(self._logits, job.flow)
        self._logits = logits
        job.output = logits if self._layout == "NHWC" else np.moveaxis(logits, -1, 0)

    def share(self, job: FrameJob) -> None:
        """Keep a key frame's mask, or make another frame's from it."""
        if job.key:
            self._mask = job.mask
            return
        assert self._mask is not None
        assert job.flow is not None
        job.mask = warp_mask(self._mask, job.flow) if self._warp else self._mask.copy()


def small_gray(frame: Frame) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] BGR → uint8 [h, w], gray, `WIDTH` wide or less, of roughly the same shape."""
    width = min(WIDTH, max(frame.shape[1], _LEAST))
    height = min(max(round(frame.shape[0] * width / frame.shape[1]), _LEAST), _MOST)
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def surprise(key: npt.NDArray[np.uint8], gray: npt.NDArray[np.uint8], flow: Flow) -> float:
    """How badly the flow explains a picture: mean absolute difference in gray levels to the warped key frame."""
    x, y = _places(flow, (gray.shape[0], gray.shape[1]))
    warped = cv2.remap(key, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(cv2.norm(warped, gray, cv2.NORM_L1)) / gray.size


def warp_mask(mask: Mask, flow: Flow) -> Mask:
    """uint8 [H, W] of the key frame → uint8 [H, W] of the current one, each pixel's class from where it was."""
    x, y = _places(flow, (mask.shape[0], mask.shape[1]))
    return np.asarray(cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)


def warp_logits(logits: npt.NDArray[np.float32], flow: Flow) -> npt.NDArray[np.float32]:
    """float32 [h, w, C] of the key frame → the same of the current one, interpolated from where each cell was."""
    x, y = _places(flow, (logits.shape[0], logits.shape[1]))
    parts: list[Any] = [cv2.remap(np.ascontiguousarray(logits[..., first:first + 4]), x, y, cv2.INTER_LINEAR,
                                  borderMode=cv2.BORDER_REPLICATE)  # which takes four channels at most
                        for first in range(0, logits.shape[2], 4)]
    return np.dstack(parts)


def _places(flow: Flow, size: tuple[int, int]) -> tuple[Flow, Flow]:
    """Where in the key frame each pixel of a picture of `size` was: x and y, float32 [H, W]."""
    height, width = size
    scale = width / flow.shape[1], height / flow.shape[0]
    method = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_LINEAR
    fine = cv2.resize(flow, (width, height), interpolation=method) if scale != (1, 1) else flow
    x, y = fine[..., 0] * np.float32(scale[0]), fine[..., 1] * np.float32(scale[1])
    x += np.arange(width, dtype=np.float32)
    y += np.arange(height, dtype=np.float32)[:, None]
    return x, y
