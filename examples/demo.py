"""`make demo`: LR-ASPP from torch to masks on a street video, every step verified.

Uses the video of ../shared/data when it is there, and otherwise a clip of its own drawing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

OUT = Path("demo")
SHARED = Path(os.environ.get("EDGESEG_SHARED", "../shared"))


def main() -> int:
    """Export, then run; stop at the first command that fails."""
    from export.onnx import __main__ as onnx
    from runtime import __main__ as runtime

    os.chdir(ROOT)
    video = SHARED / "data" / "video" / "dashcam.mp4"
    source = video if video.is_file() else draw_clip(OUT / "street.mp4")
    OUT.mkdir(exist_ok=True)
    size = "544x960" if source == video else "360x480"  # the source's own: the network then sees things as in training
    return (say_and_run(onnx.main, "export.onnx", ["lraspp", "--size", size, "--out", str(OUT)])
            or say_and_run(runtime.main, "runtime", [
                str(OUT / f"lraspp-{size}-fp32.onnx"), "--source", str(source), "--save", str(OUT / "overlay.mp4"),
                "--sheet", str(OUT / "contact-sheet.png"), "--stats", str(OUT / "summary.json")]))


def draw_clip(path: Path, frames: int = 90) -> Path:
    """A moving street of our own drawing, 360×480, for a machine without ../shared/data."""
    from calibration.data.frames import drawn_frame
    from runtime.recording import Recording

    path.parent.mkdir(exist_ok=True)
    with Recording(path, fps=25) as video:
        for index in range(frames):
            video.write(drawn_frame((360, 480), index), index / 25)
    return path


def say_and_run(command, name: str, arguments: list[str]) -> int:  # type: ignore[no-untyped-def]
    """Print the command as a person would type it, and run it."""
    print(f"\n$ python -m {name} {' '.join(arguments)}", flush=True)
    return int(command(arguments))


if __name__ == "__main__":
    sys.exit(main())
