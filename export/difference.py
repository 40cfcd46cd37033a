"""Where computations that should agree part: the first tensor that differs, for the message of a gate that failed.

A tensor keeps a name on its way through the steps: a module's path in torch ("network.stem.0"), or what torch's tracing
calls a node ("conv2d_1"), which ONNX and Core ML keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.preprocess import Frame

SAMPLES = 1 << 18
"""Values of a tensor that are compared, evenly spread; all tensors of a large network would not fit into memory."""
SILENT = 1e-5
"""Root mean square below which a tensor counts as that large: rounding is all that it holds."""


@dataclass(frozen=True)
class TensorSample:
    """A tensor's shape, and at most `SAMPLES` of its values."""

    shape: tuple[int, ...]
    values: npt.NDArray[np.float64]

    @classmethod
    def of(cls, value: Any) -> TensorSample:
        """A copy of a float array's samples, for what computes in place."""
        flat = np.ravel(np.asarray(value))
        return cls(tuple(np.shape(value)), flat[::max(1, flat.size // SAMPLES)].astype(np.float64))


Named = Iterator[tuple[str, TensorSample]]


@dataclass(frozen=True)
class Trace:
    """One way to compute the network.

    Attributes:
        title: what it is, for people: a step of ours, such as "torch.export" or "simplified".
        tensors: a frame, uint8 [1, H, W, 3] BGR → every float tensor by name, in the order of computation.
    """

    title: str
    tensors: Callable[[Frame], Named]


def parting(traces: Sequence[Trace], frame: Frame, limit: float) -> str:
    """Of computations that should agree, each held against the one before: where the first two part, in a clause.

    Args:
        traces: from the untouched network to the step that failed.
        frame: that it failed on.
        limit: root mean square of a difference, in units of the tensor's own, up to which tensors agree.

    Returns:
        The first tensor that differs and the step before it; where none does, that the engine's own optimisation or
        what has no common names lies between; "" for fewer than two traces.
    """
    for before, after in pairwise(traces):
        known = dict(before.tensors(frame))
        for name, seen in after.tensors(frame):
            if name in known and known[name].shape == seen.shape and (apart := _apart(known[name], seen)) > limit:
                size = f"by {apart:.1%} of its size" if np.isfinite(apart) else "where it is not finite"
                return f"the first tensor that differs is {name!r}, {size}: between {before.title} and {after.title}"
    if len(traces) < 2:
        return ""
    titles = [trace.title for trace in traces]
    return (f"every tensor that can be compared agrees in {', '.join(titles[:-1])} and {titles[-1]}; what comes after "
            "differs: a conversion, or the engine's own optimisation")


def _apart(a: TensorSample, b: TensorSample) -> float:
    if not np.isfinite(b.values).all():
        return float("inf")
    size = max(float(np.sqrt(np.mean(a.values ** 2))), SILENT) if a.values.size else 1.0
    return float(np.sqrt(np.mean((a.values - b.values) ** 2))) / size if a.values.size else 0.0
