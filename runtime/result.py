"""What a frame became: its mask, and what can be asked of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact, OutputKind
from runtime.errors import UserError
from runtime.mask import class_map_with_confidence, planes
from runtime.overlay import Mask, Painter
from runtime.preprocess import Frame


@dataclass(frozen=True)
class Result:
    """What one frame became. Nothing but the mask is computed before it is asked for.

    Attributes:
        mask: uint8 [H, W], the class index of every pixel, at the frame's own size.
        stages_ms: milliseconds spent in each stage that the frame passed.
        frame: uint8 [H, W, 3] BGR, as it was given.
        artifact: what made the mask; its `classes` and `palette` are in the mask's index order.
        output: what the engine returned, without its batch dimension; None where the mask has no logits of its own.
    """

    mask: Mask
    stages_ms: dict[str, float]
    frame: Frame = field(repr=False)
    artifact: Artifact = field(repr=False)
    output: npt.NDArray[Any] | None = field(repr=False)

    @cached_property
    def areas(self) -> dict[str, int]:
        """Class name → number of its pixels, for every class, in index order; divide by `mask.size` for shares."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.artifact.classes))
        return dict(zip(self.artifact.classes, counts.tolist()))

    @cached_property
    def confidence(self) -> npt.NDArray[np.float32]:
        """float32 [H, W], above 0 and up to 1: the softmax probability of the network's best class at every pixel.

        It takes about as long as a naive full-size mask, many times longer than the exact one. A mask that was refined
        may have another class than the one this speaks of.

        Raises:
            UserError: the artifact returns classes, or this frame's mask was made from an earlier one.
        """
        a = self.artifact
        if a.output_kind is OutputKind.CLASSES:
            raise UserError(f"{a.file} returns classes, and confidence needs logits",
                            try_=f"python -m export.{a.target} {a.name} --output low")
        if self.output is None:
            raise UserError("this mask was made from an earlier frame's, so that it has no confidence of its own; "
                            "expected a frame that went through the network", try_="every=1")
        logits = np.asarray(planes(self.output, a.output.layout), np.float32)
        height, width = self.mask.shape
        return class_map_with_confidence(logits, (height, width), align_corners=a.align_corners)[1]

    def draw(self, alpha: float = 0.5, line: str = "") -> Frame:
        """The frame tinted by class, with a legend.

        Args:
            alpha: weight of the class colours, 0..1.
            line: shown at the top left; empty for none.

        Returns:
            uint8 [H, W, 3] BGR, new memory.
        """
        return Painter(self.artifact.classes, self.artifact.palette, alpha)(self.frame, self.mask, line)


@dataclass(frozen=True)
class StreamResult(Result):
    """What one frame of a stream became.

    Attributes:
        index: the frame's number in the source; under `Policy.LATEST` numbers are missing where frames were dropped.
        timestamp: seconds since the source's beginning.
        overlay: uint8 [H, W, 3] BGR, what `draw` returns with a line of numbers; None when drawing is off.
        age_ms: milliseconds from the moment the frame was there to the moment this result was.
        dropped: frames dropped so far.
    """

    index: int
    timestamp: float
    overlay: Frame | None = field(repr=False)
    age_ms: float
    dropped: int
