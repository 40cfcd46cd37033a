"""What temporal reuse and smoothing cost in mIoU and bring in frames per second, and how much masks flicker.

    python -m benchmarks temporal ARTIFACT --data ../shared/data/camvid/val [--every 2,3,5]
    python -m benchmarks temporal ARTIFACT --source VIDEO

DIR holds images/ and labels/ of one sequence, in the order of their names. A video has no labels, so that mIoU is left
out, and the share of pixels that agree with the network's own masks of every frame stands alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.overlay import Mask
    from runtime.preprocess import Frame


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("benchmarks temporal", "Measure the price of --every, --warp and --smooth.",
                        "python -m benchmarks temporal out/lraspp-360x480-fp32.onnx --data ../shared/data/camvid/val")
    parser.add_argument("artifact", type=Path, help="an engine file or its JSON")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path, metavar="DIR", help="a labelled sequence: images/ and labels/")
    given.add_argument("--source", metavar="VIDEO", help="a video or folder without labels")
    parser.add_argument("--labels", default="own", metavar="SET", help="what label values mean, as benchmarks accuracy")
    parser.add_argument("--ignore", type=cli.natural, default=255, metavar="VALUE",
                        help="label value of pixels that do not count")
    parser.add_argument("--every", type=_numbers, default=[2, 3, 5], metavar="N,...", help="values of --every to try")
    parser.add_argument("--max-frames", type=cli.positive, default=150, metavar="N", help="at most the first N frames")
    parser.add_argument("--rounds", type=cli.positive, default=3,
                        help="turns of each setting; frame rates are their medians")
    parser.add_argument("--workers", type=cli.positive, help="frames at a time; default: as measured by --tune, else 1")
    parser.add_argument("--rows", type=Path, metavar="FILE.jsonl", help="add the measurement to this file")
    return cli.run(_command, parser, argv)


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} was received; expected numbers from 2 on, such as 2,3,5")
    return numbers


@dataclass
class TemporalResult:
    """What one setting did."""

    masks: list[Mask] = field(default_factory=list)
    keys: int = 0
    fps: list[float] = field(default_factory=list)


def flicker(masks: Sequence[Mask]) -> float:
    """Share of pixels whose class differs from the frame before and from the one after while those two agree.

    Things that move change a pixel's class once; only a wavering mask changes it and takes it back at once.

    Args:
        masks: uint8 [H, W], of consecutive frames of one size.

    Returns:
        0..1; 0 for fewer than three frames.
    """
    shares = [float(((b != a) & (a == c)).mean()) for a, b, c in zip(masks, masks[1:], masks[2:])]
    return sum(shares) / len(shares) if shares else 0.0


def settings(every: Sequence[int], classes: bool) -> dict[str, dict[str, Any]]:
    """Name → options of a Stream; the first is the network on every frame. Class maps cannot be smoothed."""
    found: dict[str, dict[str, Any]] = {"every frame": {}}
    for n in every:
        found[f"--every {n} --warp none"] = {"every": n, "warp": False}
        found[f"--every {n} --warp flow"] = {"every": n}
    if not classes:
        found["--smooth"] = {"smooth": True}
        found |= {f"--every {n} --smooth": {"every": n, "smooth": True} for n in every[:1]}
    return found


def _command(args: argparse.Namespace) -> int:
    from benchmarks import conditions, machine
    from runtime.artifact import OutputKind, open_artifact

    artifact, _ = open_artifact(args.artifact)
    frames, labels = _frames(args, artifact.classes)
    outcomes = {name: TemporalResult() for name in settings(args.every, artifact.output_kind is OutputKind.CLASSES)}
    for _ in cli.progress(range(args.rounds), args.rounds, "rounds"):
        for name, options in settings(args.every, artifact.output_kind is OutputKind.CLASSES).items():
            _turn(args, frames, options, outcomes[name])
    rows = {name: _figures(outcome, outcomes["every frame"], labels, len(artifact.classes))
            for name, outcome in outcomes.items()}
    _print(rows, len(frames), args.rounds)
    if args.rows:
        from benchmarks.measurement import append, row
        from runtime.sessions import engine_for

        append(args.rows, [row("temporal", artifact, figures, engine=engine_for(artifact),
                               samples=len(frames) * args.rounds,
                               machine=machine.describe() | {"load": conditions.load()}, details={"setting": name})
                           for name, figures in rows.items()])
    return 0


def _frames(args: argparse.Namespace, classes: tuple[str, ...]) -> tuple[list[Frame], list[Mask]]:
    """All frames in memory, so that decoding does not count, and their labels, if there are any."""
    from calibration.data.labels import find_pairs, label_map, read_pairs
    from runtime.sources import open_source
    from runtime.video import quiet_opencv

    quiet_opencv()
    if args.data:
        pairs = find_pairs(args.data)[:args.max_frames]
        read = list(read_pairs(pairs, label_map(args.labels, classes, args.ignore)))
        frames, labels = [frame for _, frame, _ in read], [label for _, _, label in read]
    else:
        frames, labels = [shot.image for shot in islice(open_source(args.source).shots, args.max_frames)], []
    if len(frames) < 3:
        raise UserError(f"{len(frames)} frames were received; expected a sequence of at least three")
    return frames, labels


def _turn(args: argparse.Namespace, frames: Sequence[Frame], options: dict[str, Any], outcome: TemporalResult) -> None:
    """Run the stream once over all frames; the masks are the same in every turn."""
    from runtime.stream import Stream

    with Stream(args.artifact, frames, draw=False, workers=args.workers, **options) as stream:
        start = perf_counter()
        results = list(stream)
        outcome.fps.append(len(results) / (perf_counter() - start))
    outcome.masks = [result.mask for result in results]
    outcome.keys = sum("inference" in result.stages_ms for result in results)


def _figures(outcome: TemporalResult, whole: TemporalResult, labels: Sequence[Mask], classes: int) -> dict[str, float]:
    from calibration.judge.accuracy import confusion, miou

    gained = median(a / b for a, b in zip(outcome.fps, whole.fps))
    agreement = sum(float((a == b).mean()) for a, b in zip(outcome.masks, whole.masks)) / len(whole.masks)
    figures = {"key_share": outcome.keys / len(outcome.masks), "fps": median(outcome.fps), "fps_ratio": gained,
               "agreement": agreement, "flicker": flicker(outcome.masks)}
    if labels:
        counts = sum((confusion(label, mask, classes) for label, mask in zip(labels[1:], outcome.masks[1:])),
                     confusion(labels[0], outcome.masks[0], classes))
        figures["miou"] = miou(counts)
    return figures


def _print(rows: dict[str, dict[str, float]], frames: int, rounds: int) -> None:
    print(f"{'':<24}{'mIoU':>8}{'agrees':>9}{'flicker':>9}{'key frames':>12}{'FPS':>8}{'× every frame':>15}")
    for name, f in rows.items():
        miou = f"{f['miou']:.4f}" if "miou" in f else "–"
        print(f"{name:<24}{miou:>8}{f['agreement']:>9.2%}{f['flicker']:>9.2%}{f['key_share']:>12.0%}{f['fps']:>8.1f}"
              f"{f['fps_ratio']:>15.2f}")
    print(f"{frames} frames in memory, {rounds} rounds in turns; agrees: pixels with the class that the network gives "
          "on every frame; flicker: pixels that change their class and change it back in the next frame")


if __name__ == "__main__":
    sys.exit(main())
