"""Videos of numbered pictures in the ways that cameras and encoders make them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from tests import colours


def h264(path: Path, frames: int, *, gop: int = 10, open_gop: bool = False, b_frames: int = 0,
         size: tuple[int, int] = (32, 96)) -> Path:
    """Numbered pictures with a key frame every `gop`; with B-frames, they lie in another order than they are shown."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:b-adapt=0:"
                          f"open-gop={int(open_gop)}:log-level=none"}
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(colours.numbered(number, size), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
