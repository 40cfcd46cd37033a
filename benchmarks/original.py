"""The network as its authors run it, on the frames that its artifacts are judged by: what each of them must keep."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from calibration.data.labels import LabelMap, Pair
    from calibration.judge.accuracy import Accuracy
    from runtime.artifact import Artifact
    from runtime.preprocess import Frame
    from runtime.result import Result


class FrameSegmenter(Protocol):
    """A `runtime.Segmenter`, or what stands for one: its artifact, and a mask for each frame."""

    artifact: Artifact

    def __call__(self, frame: Frame) -> Result:
        """uint8 [H, W, 3] BGR → its mask."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What a network or an artifact made of labelled frames.

    Attributes:
        accuracy: against the labels.
        masks: of each frame, uint8 [H, W], packed by zlib: a thousand frames fit into memory.
    """

    accuracy: Accuracy
    masks: tuple[bytes, ...]

    def against(self, original: Evaluation) -> dict[str, float]:
        """What was lost: the share of pixels that keep their class, and points of mIoU with their 95 % interval, the
        same frames drawn for both."""
        import numpy as np

        from calibration.judge.accuracy import drop_interval

        pairs = (tuple(np.frombuffer(zlib.decompress(mask), np.uint8) for mask in pair)
                 for pair in zip(self.masks, original.masks, strict=True))
        low, high = drop_interval(self.accuracy.counts, original.accuracy.counts)
        return {"agreement": float(np.mean([np.mean(ours == theirs) for ours, theirs in pairs])),
                "drop_points": 100 * (original.accuracy.miou - self.accuracy.miou),
                "drop_low_points": 100 * low, "drop_high_points": 100 * high}


def evaluation(masks: FrameSegmenter, pairs: Sequence[Pair], mapping: LabelMap) -> Evaluation:
    """Run on labelled frames from disk, and keep the masks.

    Raises:
        UserError: a frame or label cannot be used; the file is named.
    """
    from benchmarks.accuracy import evaluate

    packed: list[bytes] = []
    accuracy = evaluate(masks, pairs, mapping, lambda mask: packed.append(zlib.compress(mask.tobytes(), 1)))
    return Evaluation(accuracy, tuple(packed))


class Original:
    """The untouched network in torch, float32, which runs once and only when an artifact is held against it.

    Args:
        name: a network's name, as `export.origins` describes.
        size: input (H, W).
        weights: as `export.request.request` takes them.
    """

    def __init__(self, name: str, size: tuple[int, int], weights: str | None) -> None:
        self._name, self._size, self._weights = name, size, weights
        self._evaluation: Evaluation | None = None

    def evaluation(self, artifact: Artifact, pairs: Sequence[Pair], mapping: LabelMap) -> Evaluation:
        """What it makes of the frames; the same ones are given every time.

        Args:
            artifact: any of its artifacts, which says how a mask is made.
            pairs, mapping: the labelled frames.
        """
        if self._evaluation is None:
            from export.accuracy import TorchSession
            from export.request import request
            from runtime.segmenter import Segmenter

            wanted = request(self._name, weights=self._weights, size=self._size, output=artifact.output_kind)
            session = TorchSession(wanted, artifact.output.layout)
            self._evaluation = evaluation(Segmenter(artifact, session), pairs, mapping)
        return self._evaluation
