"""mIoU, boundary IoU and pixel accuracy of an artifact on labelled frames, through the runtime that ships.

    python -m benchmarks accuracy ARTIFACT --data DIR

DIR holds images/ and labels/ with the same file names. What is measured is the artifact's own path: its engine, its
preprocessing, its mask at frame size.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import board, cli, cluster
from runtime.errors import UserError
from runtime.files import check_writable, in_one_piece, write_text

if TYPE_CHECKING:
    from benchmarks.original import FrameSegmenter
    from benchmarks.remote import Remote
    from calibration.data.labels import LabelMap, Pair
    from calibration.judge.accuracy import Accuracy, Mask
    from runtime.parcel import Parcel
    from runtime.segmenter import Segmenter

PART = 16
"""Frames that a worker of a cluster is given at a time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("benchmarks accuracy", "Measure the accuracy of an artifact's masks.",
                        "python -m benchmarks accuracy out/lraspp-360x480-fp32.onnx --data ../shared/data/camvid/val")
    parser.add_argument("artifact", type=Path, help="an engine file or its JSON")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="holds images/ and labels/")
    parser.add_argument("--labels", default="own", metavar="SET",
                        help="what label values mean: own (the network's order), camvid, cityscapes (train ids), voc, "
                             "or a JSON file of {value: class name}")
    parser.add_argument("--ignore", type=cli.natural, default=255, metavar="VALUE",
                        help="label value of pixels that do not count")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N", help="at most N frames, evenly spread")
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="write one row per frame")
    parser.add_argument("--worst", type=Path, metavar="FILE.png", help="draw the four worst frames")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the figures as JSON")
    parser.add_argument("--engine", metavar="NAME", help="as for python -m runtime")
    parser.add_argument("--threads", type=cli.positive, help="threads within one frame; default: the engine decides")
    board.add_flags(parser)
    cluster.add_flag(parser)
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from calibration.data.frames import evenly_spaced
    from calibration.data.labels import find_pairs, label_map

    if not 0 <= args.ignore <= 255:
        raise UserError(f"--ignore {args.ignore} was received; expected 0..255")
    for path in (args.csv, args.worst, args.json):
        if path:
            check_writable(path)
    pairs = find_pairs(args.data)
    if args.max_frames is not None:
        kept = set(evenly_spaced([p.image for p in pairs], args.max_frames))
        pairs = [p for p in pairs if p.image in kept]
    with _opened(args) as segmenter:
        mapping = label_map(args.labels, segmenter.artifact.classes, args.ignore)
        accuracy = _on_cluster(args, pairs, mapping) if args.ray else evaluate(segmenter, pairs, mapping)
        if args.worst:
            draw_worst(args.worst, segmenter, accuracy, pairs, mapping)
    if args.csv:
        write_csv(args.csv, accuracy)
    figures = summary(accuracy)
    if args.json:
        text = json.dumps({"artifact": segmenter.artifact.sha256, "file": segmenter.artifact.file,
                           "data": str(args.data), **({"board": args.on.name} if args.on else {}), **figures},
                          indent=2) + "\n"
        write_text(args.json, text)
    print(table(accuracy))
    if mapping.unused:
        print(f"not counted, because the network has no such class: {', '.join(mapping.unused)}")
    low, high = figures["miou_interval"]
    print(f"{segmenter.artifact.file}: mIoU {figures['miou']:.4f} (95 % {low:.4f} to {high:.4f}), boundary IoU "
          f"{figures['boundary_iou']:.4f}, pixel accuracy {figures['pixel_accuracy']:.4f}, "
          f"{len(accuracy.frames)} frames")
    return 0


def _on_cluster(args: argparse.Namespace, pairs: Sequence[Pair], mapping: LabelMap) -> Accuracy:
    """As `evaluate`, to the last digit: what is counted in each frame is put together in the frames' order."""
    import numpy as np

    from calibration.judge.accuracy import Accuracy
    from runtime.parcel import packed

    here = [replace(pair, image=pair.image.absolute(), label=pair.label.absolute()) for pair in pairs]
    parts = [here[at:at + PART] for at in range(0, len(here), PART)]
    opening = partial(_part_of_it, packed(args.artifact), args.engine, args.threads, mapping)
    found = list(cli.progress(cluster.mapped(args.ray, opening, parts), len(parts), "parts"))
    return Accuracy(found[0].classes, tuple(name for part in found for name in part.frames),
                    np.concatenate([part.counts for part in found]),
                    np.concatenate([part.boundaries for part in found]))


def _part_of_it(parcel: Parcel, engine: str | None, threads: int | None,
                mapping: LabelMap) -> Callable[[Sequence[Pair]], Accuracy]:
    """What a worker of the cluster does with frames that it reads from the disk that all share."""
    from runtime.segmenter import Segmenter

    segmenter = Segmenter.open(parcel.unpacked(), threads=threads, engine=engine)
    return lambda pairs: evaluate(segmenter, pairs, mapping)


def _opened(args: argparse.Namespace) -> Segmenter | Remote:
    """The artifact, here or on a board."""
    from benchmarks.remote import Remote
    from runtime.segmenter import Segmenter

    on = board.wanted(args)
    if on:
        return Remote(args.artifact, on, args.engine, args.threads)
    return Segmenter.open(args.artifact, threads=args.threads, engine=args.engine)


def evaluate(segmenter: FrameSegmenter, pairs: Sequence[Pair], mapping: LabelMap,
             keep: Callable[[Mask], object] = lambda mask: None) -> Accuracy:
    """Measure an opened artifact on frames from disk.

    Args:
        segmenter: here, or on a board.
        pairs: the frames.
        mapping: what their labels mean.
        keep: receives every mask, uint8 [H, W], in the order of the frames.

    Raises:
        UserError: a frame or label cannot be used; the file is named.
    """
    from calibration.data.labels import read_pairs
    from calibration.judge.accuracy import measure

    def segment(frame: Mask) -> Mask:
        mask = segmenter(frame).mask
        keep(mask)
        return mask

    frames = cli.progress(read_pairs(pairs, mapping), len(pairs), "frames")
    return measure(segment, frames, segmenter.artifact.classes)


def summary(accuracy: Accuracy) -> dict[str, Any]:
    """All figures as plain values; None for a class that does not occur."""
    import numpy as np

    def by_class(values: Sequence[float]) -> dict[str, float | None]:
        return {name: None if math.isnan(v) else float(v) for name, v in zip(accuracy.classes, values)}

    return {"frames": len(accuracy.frames), "miou": accuracy.miou, "miou_interval": list(accuracy.interval()),
            "pixel_accuracy": accuracy.pixel_accuracy, "boundary_iou": float(np.nanmean(accuracy.boundary_iou)),
            "iou_by_class": by_class(accuracy.iou.tolist()),
            "boundary_iou_by_class": by_class(accuracy.boundary_iou.tolist())}


def table(accuracy: Accuracy) -> str:
    """IoU, boundary IoU and share of the labelled pixels of each class, as text."""
    counts = accuracy.counts.sum(0)
    share = counts.sum(1) / counts.sum()
    rows = [f"{'class':<16}{'IoU':>8}{'boundary':>10}{'pixels':>9}"]
    for name, i, b, s in zip(accuracy.classes, accuracy.iou, accuracy.boundary_iou, share):
        rows.append(f"{name:<16}{i:>8.4f}{b:>10.4f}{s:>9.2%}".replace("nan", "  -"))
    return "\n".join(rows)


def write_csv(path: Path, accuracy: Accuracy) -> None:
    """One row per frame: name, mIoU over the classes in it, pixel accuracy, IoU per class (empty where absent)."""
    from calibration.judge.accuracy import iou, pixel_accuracy

    with in_one_piece(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["frame", "miou", "pixel_accuracy", *accuracy.classes])
        for name, mean, counts in zip(accuracy.frames, accuracy.frame_miou, accuracy.counts):
            right = pixel_accuracy(counts) if counts.sum() else math.nan
            values = [mean, right, *iou(counts)]
            writer.writerow([name, *("" if math.isnan(v) else f"{v:.5f}" for v in values)])


def draw_worst(path: Path, segmenter: FrameSegmenter, accuracy: Accuracy, pairs: Sequence[Pair], mapping: LabelMap,
               count: int = 4) -> None:
    """The frames with the lowest mIoU, a row each: the frame, its label, our mask, and where they differ in red."""
    import cv2
    import numpy as np

    from calibration.data.labels import read_pairs
    from calibration.judge.accuracy import IGNORE
    from runtime.overlay import Painter
    from runtime.video import write_png

    order = [int(i) for i in np.argsort(accuracy.frame_miou) if not math.isnan(accuracy.frame_miou[i])][:count]
    painter = Painter(segmenter.artifact.classes, segmenter.artifact.palette, alpha=0.6)
    rows = []
    for name, frame, label in read_pairs([pairs[i] for i in order], mapping):
        mask = segmenter(frame).mask
        wrong = frame // 2
        wrong[(mask != label) & (label != IGNORE)] = (40, 40, 230)
        mean = accuracy.frame_miou[accuracy.frames.index(name)]
        tiles = [frame, painter(frame, np.where(label == IGNORE, 255, label).astype(np.uint8), "label"),
                 painter(frame, mask, f"{name}  mIoU {mean:.3f}"), wrong]
        rows.append(np.hstack([cv2.resize(tile, (480, 480 * frame.shape[0] // frame.shape[1])) for tile in tiles]))
    width = max(row.shape[1] for row in rows)
    picture = np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows])
    write_png(path, np.asarray(picture, np.uint8))


if __name__ == "__main__":
    sys.exit(main())
