"""How well the output of one step agrees with what went into it, in the task's own terms: which class a pixel gets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from export.difference import Trace, parting
from runtime.artifact import Check
from runtime.errors import GateFailed
from runtime.preprocess import Frame

logger = logging.getLogger(__name__)

Output = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
"""What an engine returns for one frame: logits (float32) or a class map (uint8)."""

Run = Callable[[Frame], Output]
"""uint8 [1, H, W, 3] BGR → output, batch dimension included."""

ToClasses = Callable[[Output], npt.NDArray[np.uint8]]
"""One output → uint8 [H, W] class map at input size."""


@dataclass(frozen=True)
class Gate:
    """What a step must reach.

    Attributes:
        agreement: smallest share of pixels whose class is the same, over all frames.
        max_rel: largest difference of logits as a share of the largest, as networks scale them as they like: SFNet's
            reach 50 with random weights, DeepLabv3+'s 4e-5. None where the step rounds on purpose.
        apart: by how much of its size a tensor on the way may differ before it is named as the first that does.
    """

    agreement: float
    max_rel: float | None = None
    apart: float = 0.3

    def refuses(self, check: Check) -> str:
        """Why `check` does not pass; empty when it does."""
        if not check.agreement >= self.agreement:
            return f"{check.agreement:.4%} of pixels keep their class, {self.agreement:.2%} are required"
        if self.max_rel is not None and check.max_rel is not None and not check.max_rel <= self.max_rel:
            return f"logits differ by up to {check.max_rel:.3%} of the largest, {self.max_rel:.2%} is allowed"
        return ""


FP32 = Gate(agreement=0.9999, max_rel=1e-4, apart=1e-3)
FP16 = Gate(agreement=0.998, apart=0.03)

SEVERAL = 4
"""How many times as far as by one rounding of the weights a network's logits may move: an engine rounds every sum."""


class Verifier:
    """Holds the reference outputs of a set of frames, and compares every later step with them.

    Args:
        frames: (name, uint8 [1, H, W, 3] BGR) at the network's input size.
        reference: the network as it was before any step.
        control: the same network with other weights. Its outputs must fail the gate, or the check means nothing.
        to_classes: output → class map.
        traces: the reference, and what every step has in common on the way from it.
        neighbour: makes the network with every weight moved to the next float32 number. By how much its logits differ
            is what float32 itself leaves open, and no step is refused for that.
    """

    def __init__(self, frames: Sequence[tuple[str, Frame]], reference: Run, control: Run | None,
                 to_classes: ToClasses, traces: Sequence[Trace] = (),
                 neighbour: Callable[[], Run] | None = None) -> None:
        self.frames = frames
        self.traces = traces
        self._neighbour = neighbour
        self._to_classes = to_classes
        self._reference = [reference(frame) for _, frame in frames]
        self._control = self._compare("control", control) if control else None

    def check(self, step: str, run: Run, gate: Gate, traces: Sequence[Trace] | None = None) -> Check:
        """Run every frame, compare with the reference, and hold the result against `gate`.

        Args:
            step: "<after> vs <before>", for people.
            run: the engine under test.
            gate: what it must reach.
            traces: what passed its gate before the step, and the step itself; None for the verifier's own.

        Raises:
            GateFailed: it does not, and the message says where it parts from what it was made of; or the control
                network would have passed too.
        """
        check = self._compare(step, run)
        gate = self._attainable(gate, check)
        if self._control is not None:
            check = replace(check, control=self._control.agreement)
            if not gate.refuses(self._control):
                raise GateFailed(f"{step}: a network with other weights passes the same check on these "
                                 f"{check.frames} frames, so the check proves nothing",
                                 try_="--frames DIR with more varied frames")
        if reason := gate.refuses(check):
            where = parting(self.traces if traces is None else traces, dict(self.frames)[check.worst_frame], gate.apart)
            raise GateFailed(f"{step}: {reason} (worst frame {check.worst_frame}: {check.worst_agreement:.2%}); "
                             f"{where + '; ' if where else ''}nothing was written")
        return check

    def _attainable(self, gate: Gate, check: Check) -> Gate:
        """The gate, wider where float32 leaves the network's logits open; looked at only where that matters."""
        if gate.max_rel is None or check.max_rel is None or check.max_rel <= gate.max_rel:
            return gate
        return replace(gate, max_rel=max(gate.max_rel, SEVERAL * self._left_open))

    @cached_property
    def _left_open(self) -> float:
        """Share of the largest logit by which one rounding of the weights moves the others."""
        moved = self._compare("neighbour", self._neighbour()).max_rel or 0.0 if self._neighbour else 0.0
        if moved:
            logger.warning(f"logits move by {moved:.3%} of the largest when each weight moves to the next float32 "
                           f"number; a step may move them {SEVERAL} times as far")
        return moved

    def _compare(self, step: str, run: Run) -> Check:
        rows = [_compare_frame(reference, run(frame), self._to_classes)
                for (_, frame), reference in zip(self.frames, self._reference)]
        agreement = [row.agreement for row in rows]
        worst = int(np.argmin(agreement))
        logits = rows[0].max_abs is not None
        return Check(
            step=step, frames=len(rows), agreement=float(np.mean(agreement)),
            worst_frame=self.frames[worst][0], worst_agreement=agreement[worst],
            max_abs=max(row.max_abs or 0.0 for row in rows) if logits else None,
            max_rel=max(row.max_rel or 0.0 for row in rows) if logits else None,
            cosine=min(row.cosine or 0.0 for row in rows) if logits else None,
        )


@dataclass(frozen=True)
class _Row:
    agreement: float
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None


def _compare_frame(reference: Output, output: Output, to_classes: ToClasses) -> _Row:
    """Compare one frame's outputs. A NaN or infinity anywhere counts as no agreement at all."""
    if reference.shape != output.shape:
        raise GateFailed(f"the step changed the output's shape from {reference.shape} to {output.shape}")
    if reference.dtype == np.uint8:
        return _Row(float(np.mean(reference == output)))
    if not np.isfinite(output).all():
        return _Row(0.0, float("inf"), float("inf"), 0.0)
    a, b = reference.astype(np.float64).ravel(), output.astype(np.float64).ravel()
    difference = float(np.abs(a - b).max())
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return _Row(
        agreement=float(np.mean(to_classes(reference) == to_classes(output))),
        max_abs=difference,
        max_rel=difference / max(float(np.abs(a).max()), 1e-12),
        cosine=float(a @ b) / norms if norms else 0.0,
    )


def describe(check: Check) -> str:
    """One line for people."""
    logits = "" if check.max_abs is None else f", max |Δ| {check.max_abs:.1e}, cosine {check.cosine:.6f}"
    control = "" if check.control is None else f", control {check.control:.1%}"
    return (f"{check.step}: {check.agreement:.4%} of pixels agree on {check.frames} frames "
            f"(worst {check.worst_agreement:.4%}{logits}{control})")
