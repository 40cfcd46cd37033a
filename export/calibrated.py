"""INT8 in a target's own form: the frames that ranges come from, the artifact's record of them, and whether it pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from export.verify import Gate, Run
from runtime.errors import UserError

if TYPE_CHECKING:
    from calibration.data.coverage import Chosen
    from export.target import Job
    from runtime.preprocess import Frame

FRAMES = 32
"""That ranges come from; from 64, lraspp-small had 0.04 points of mIoU more on CamVid val in LiteRT."""

METHOD = "mse"
"""Of `calibration.quantise.thresholds.METHODS`, as `python -m calibration` has it by default."""

LOSSY = Gate(agreement=0.9)
"""What INT8 must keep at the least; what it costs in mIoU is for `--data` to say."""


def calibration_frames(job: Job) -> Chosen:
    """The frames of `job.calibration` that cover it best.

    Raises:
        UserError: no folder was given, or it holds too few.
    """
    from calibration.data.coverage import choose
    from calibration.judge.measure import find_data

    if job.calibration is None:
        raise UserError("--precision int8 needs frames to learn the activations' ranges from; expected --calibration",
                        try_="--calibration DIR with a few dozen photos of the scene")
    return choose(find_data(job.calibration).images, FRAMES, job.request.spec.preprocess, allow_few=job.allow_few)


def record(chosen: Chosen, source: str) -> dict[str, Any]:
    """What the artifact says of its calibration; `source` says whose tensors were looked at."""
    return {"frames": len(chosen.paths), "fingerprint": chosen.fingerprint, "method": METHOD, "source": source}


def verdict(engine: str, before: Run, after: Run, frame: Frame) -> str:
    """Whether INT8 pays on this machine, both in turns; on the device, whose kernels are others, it may differ."""
    from calibration.judge.processor import this_processor
    from calibration.judge.verdict import NOISE, ROUNDS, measure_speed
    from runtime.turns import TURN

    *_, speed = measure_speed({(engine, "float32"): before, (engine, "int8"): after}, frame)
    paying = ("pays" if speed.ratio < 1 - NOISE else "costs" if speed.ratio > 1 + NOISE else "saves size only")
    return (f"INT8 {paying} here: {speed.ratio:.2f} times float32's time ({ROUNDS} rounds of {TURN} frames in turns, "
            f"{this_processor().describe()}); {engine}'s INT8 is made for Arm, where this may differ")
