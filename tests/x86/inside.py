"""What the emulated PC does: masks of frames through engines, said line by line as JSON through port 0xE9.

Its job is /job/job.json, a list of {"engine", "artifact", "frames"}; frames are files beside it. It goes through the
frames, not through the artifacts, so that a job that is broken off has done a part of each.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

JOB = Path("/job")
PORT = 0xE9


def main() -> None:
    """Do the job; a line for each mask, as soon as it is there."""
    from runtime import Segmenter
    from runtime.sessions.openvino import capabilities
    from runtime.video import read_image

    job = json.loads((JOB / "job.json").read_text("utf-8"))
    say(computes_in=capabilities())
    opened: dict[tuple[str, str], Any] = {}
    for frame in dict.fromkeys(name for one in job for name in one["frames"]):
        for one in job:
            pair = one["engine"], one["artifact"]
            if frame not in one["frames"]:
                continue
            if pair not in opened:
                opened[pair] = Segmenter.open(JOB / pair[1], threads=1, engine=pair[0])
                say(engine=pair[0], artifact=pair[1], kernels=kernels(opened[pair]))
            say(engine=pair[0], artifact=pair[1], frame=frame, **packed(opened[pair](read_image(JOB / frame)).mask))


def kernels(segmenter: Any) -> dict[str, int]:
    """How many of OpenVINO's layers each kernel computes, such as "Convolution brgconv_avx512_vnni_i8"; nothing for
    another engine."""
    from runtime.sessions.openvino import property_of

    compiled = getattr(segmenter._session, "_compiled", None)
    layers = compiled.get_runtime_model().get_ops() if compiled else []
    return dict(Counter(f"{property_of(layer, 'layerType')} {property_of(layer, 'primitiveType')}" for layer in layers))


def packed(mask: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """uint8 [H, W] → what JSON can hold."""
    return {"shape": mask.shape, "mask": base64.b64encode(zlib.compress(mask.tobytes(), 9)).decode()}


def unpacked(said: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """The way back."""
    return np.frombuffer(zlib.decompress(base64.b64decode(said["mask"])), np.uint8).reshape(said["shape"])


def say(**values: object) -> None:
    """A line of JSON to port 0xE9, which Bochs prints."""
    port = os.open("/dev/port", os.O_WRONLY)
    for byte in (json.dumps(values) + "\n").encode():
        os.pwrite(port, bytes([byte]), PORT)
    os.close(port)


if __name__ == "__main__":
    main()
