"""How much the exact mask saves: `python -m benchmarks.mask`.

Every method makes the same class maps from the same logits, in turn within one run, so that whatever else the machine
does affects all of them alike.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from runtime import cli
from runtime.errors import GateFailed, MissingLibrary, UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Logits = npt.NDArray[np.float32]
    Method = Callable[[Logits], npt.NDArray[Any]]

OURS = "exact mask"


def logits_from_file(path: Path) -> list[Logits]:
    """float32 [C, h, w] or [frames, C, h, w] from a .npy file.

    Raises:
        UserError: not such a file.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected a .npy file of float32 logits") from error
    shape, dtype = getattr(array, "shape", "unknown"), getattr(array, "dtype", "unknown")
    if dtype != np.float32 or array.ndim not in (3, 4) or not array.size:
        raise UserError(f"{path} holds shape {shape}, dtype {dtype}; expected float32 [C, h, w] or [frames, C, h, w]")
    return list(array.reshape(-1, *array.shape[-3:]))


def logits_from_video(engine: Path, source: Path, frames: int) -> list[Logits]:
    """Low-resolution logits of frames spread evenly over a video, as [C, h, w].

    Raises:
        UserError: the artifact does not return low-resolution logits, or no frame can be read.
    """
    import cv2
    import numpy as np

    from runtime.artifact import OutputKind, open_artifact
    from runtime.mask import planes
    from runtime.sessions import open_session

    artifact, path = open_artifact(engine)
    if artifact.output_kind is not OutputKind.LOW:
        raise UserError(f"{engine} returns {artifact.output_kind.value!r}; expected low-resolution logits",
                        try_=f"python -m export.{artifact.target} {artifact.name} --output low")
    video = cv2.VideoCapture(str(source))
    every = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // frames)
    found: list[Logits] = []
    with closing(open_session(artifact, path)) as session:
        for position in count():
            if len(found) == frames or not video.grab():
                break
            if position % every == 0:
                frame = np.asarray(video.retrieve()[1], dtype=np.uint8)
                logits = session.run(artifact.preprocess(frame))[0].copy()
                found.append(planes(logits, artifact.output.layout))
    video.release()
    if not found:
        raise UserError(f"no frame could be read from {source}; expected a video")
    return found


def drawn_logits(frames: int) -> list[Logits]:
    """Smooth noise, 11 classes at 64×128; about as many mixed cells as a trained network's logits have."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    coarse = rng.standard_normal((frames, 11, 6, 11)).astype(np.float32)
    return [np.stack([cv2.resize(plane, (128, 64), interpolation=cv2.INTER_CUBIC) for plane in frame])
            for frame in coarse]


def methods(size: tuple[int, int], align_corners: bool, threads: int) -> dict[str, Method]:
    """The contenders by name; the first is the reference that the others are compared with."""
    import cv2
    import numpy as np

    from runtime.mask import class_map

    try:
        import torch
        from torch.nn.functional import interpolate
    except ImportError as error:
        raise MissingLibrary("torch", "the comparison with torch", "export") from error

    def by_torch(threads: int, layout: torch.memory_format) -> Method:
        def method(logits: Logits) -> npt.NDArray[Any]:
            torch.set_num_threads(threads)
            full = interpolate(torch.from_numpy(logits)[None].contiguous(memory_format=layout), size, mode="bilinear",
                               align_corners=align_corners)
            return np.asarray(full.argmax(1)[0])
        return method

    def by_opencv(logits: Logits) -> npt.NDArray[Any]:
        full = cv2.resize(np.ascontiguousarray(logits.transpose(1, 2, 0)), size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(full.reshape(*size, -1).argmax(axis=2))

    found: dict[str, Method] = {
        f"torch, {threads} threads": by_torch(threads, torch.contiguous_format),
        "torch, 1 thread": by_torch(1, torch.contiguous_format),
        f"torch, {threads} threads, channels last": by_torch(threads, torch.channels_last),
    }
    if not align_corners:  # which cv2.resize does not offer
        found["cv2.resize, numpy argmax"] = by_opencv
    found[OURS] = lambda logits: class_map(logits, size, align_corners=align_corners)
    return found


def mixed_share(logits: Logits) -> float:
    """Share of the cells between four samples whose corners differ in their best class."""
    best = logits.argmax(axis=0)
    a, b, c, d = best[:-1, :-1], best[:-1, 1:], best[1:, :-1], best[1:, 1:]
    return float(((a != b) | (a != c) | (a != d)).mean()) if a.size else 0.0


def beyond_rounding(logits: Logits, a: npt.NDArray[Any], b: npt.NDArray[Any], align_corners: bool) -> int:
    """Pixels where two class maps differ, and torch's logits of the two classes by over 1e-5 of the largest logit."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    y, x = np.nonzero(a != b)
    if not len(y):
        return 0
    full = interpolate(torch.from_numpy(logits)[None], a.shape, mode="bilinear", align_corners=align_corners)[0].numpy()
    return int((np.abs(full[a[y, x], y, x] - full[b[y, x], y, x]) > 1e-5 * np.abs(logits).max()).sum())


def compare(contenders: dict[str, Method], frames: Sequence[Logits], rounds: int, align_corners: bool) -> str:
    """Time all contenders on all frames in turn.

    Returns:
        A table: milliseconds per frame; how many times faster than the first contender, as the median over frames and
        rounds; pixels whose class differs from the first contender's, and how many of these rounding cannot explain.

    Raises:
        GateFailed: the exact mask is wrong about a pixel; the message holds the table.
    """
    import numpy as np

    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    differing, wrong = dict.fromkeys(contenders, 0), dict.fromkeys(contenders, 0)
    # The first round warms caches up and counts the differences.
    for turn in cli.progress(range(rounds + 1), rounds + 1, "rounds"):
        for logits in frames:
            reference = None
            for name, method in contenders.items():
                start = perf_counter()
                classes = method(logits)
                elapsed = 1e3 * (perf_counter() - start)
                reference = classes if reference is None else reference
                if turn:
                    milliseconds[name].append(elapsed)
                else:
                    differing[name] += int((classes != reference).sum())
                    wrong[name] += beyond_rounding(logits, classes, reference, align_corners)

    first = np.array(next(iter(milliseconds.values())))
    titles = ("median ms", "p90 ms", "best ms", "faster", "pixels differ", "wrong")
    lines = [f"{'method':34} " + " ".join(f"{title:>13}" for title in titles)]
    for name, taken in milliseconds.items():
        lines.append(f"{name:34} {np.median(taken):13.2f} {np.percentile(taken, 90):13.2f} {min(taken):13.2f} "
                     f"{np.median(first / taken):12.1f}x {differing[name]:13d} {wrong[name]:13d}")
    table = "\n".join(lines)
    if wrong.get(OURS):
        raise GateFailed(f"the {OURS} differs from torch by more than rounding\n{table}\n")
    return table


def conditions(frames: Sequence[Logits], origin: str, size: tuple[int, int], rounds: int) -> str:
    """What the figures depend on, for the record."""
    import cv2
    import numpy as np
    import torch

    from benchmarks.machine import describe

    share = np.mean([mixed_share(logits) for logits in frames])
    c, h, w = frames[0].shape
    return (f"{origin}: {len(frames)} frames x {rounds} rounds, {c} classes, {h}x{w} -> {size[0]}x{size[1]}, "
            f"{100 * share:.1f} % of cells mixed\n"
            f"{describe()['cpu']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, "
            f"numpy {np.__version__}, OpenCV {cv2.__version__}")


def command(options: argparse.Namespace) -> int:
    """Compare, and print."""
    if (options.artifact is None) != (options.source is None):
        raise UserError("--artifact and --source belong together; one of them is missing")
    if options.logits:
        frames, origin = logits_from_file(options.logits), options.logits.name
    elif options.artifact:
        frames = logits_from_video(options.artifact, options.source, options.frames)
        origin = f"{options.artifact.name} on {options.source.name}"
    else:
        frames, origin = drawn_logits(options.frames), "drawn logits (not a network's)"
    table = compare(methods(options.size, options.align_corners, options.threads), frames, options.rounds,
                    options.align_corners)
    print(table, conditions(frames, origin, options.size, options.rounds), sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks mask`."""
    arguments = cli.parser("benchmarks mask", "Compare the exact mask with full-size interpolation and argmax.",
                           "python -m benchmarks mask --artifact out/lraspp-512x1024-fp32.onnx --source street.mp4")
    arguments.add_argument("--logits", type=Path, metavar="FILE.npy", help="float32 [C, h, w] or [frames, C, h, w]")
    arguments.add_argument("--artifact", type=Path, help="an artifact whose output is low; needs --source")
    arguments.add_argument("--source", type=Path, metavar="VIDEO", help="where the artifact's frames come from")
    arguments.add_argument("--size", type=cli.size, default=(512, 1024), metavar="HxW", help="of the class maps")
    arguments.add_argument("--frames", type=cli.positive, default=20, help="frames to take from the video, or to draw")
    arguments.add_argument("--rounds", type=cli.positive, default=5, help="how often each method runs on each frame")
    arguments.add_argument("--threads", type=cli.positive, default=2, help="for torch; the exact mask uses one")
    arguments.add_argument("--align-corners", action="store_true", help="the other convention of interpolation")
    return cli.run(command, arguments, argv)


if __name__ == "__main__":
    sys.exit(main())
