"""`python -m runtime.batch ARTIFACT --source … --out …`: masks of many videos and folders, on one machine or many."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import cli, cluster
from runtime.errors import Incomplete, UserError
from runtime.workers import TRIES, Pool, Processes

if TYPE_CHECKING:
    from runtime.batch.driver import Summary
    from runtime.batch.worker import BatchJob

_SHOWN = 20
"""Failures that are listed; the manifest has all."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("runtime.batch", "Segment many videos and folders of images; run again to continue.",
                        "python -m runtime.batch out/lraspp-360x480-fp32.onnx --source videos --out masks")
    parser.add_argument("artifact", type=Path, help="an engine file or its JSON")
    parser.add_argument("--source", required=True, nargs="+", metavar="SOURCE", help="folders (searched deeply), "
                        "videos, patterns such as 'day/*.mp4', or .txt files that list some; paths or URLs")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder or URL for masks and manifest.jsonl")
    parser.add_argument("--masks", choices=("png", "rle", "parquet"), default="png", help="png: one file for every "
                        "frame; rle: COCO's run-length codes; parquet: PNGs and pixel counts in a table")
    parser.add_argument("--video", action="store_true", help="also write the overlays, a video for each segment")
    parser.add_argument("--every", type=cli.positive, default=1, metavar="N", help="as for python -m runtime; counts "
                        "anew in every segment")
    parser.add_argument("--engine", metavar="NAME", help="as for python -m runtime")
    parser.add_argument("--threads", type=cli.positive, default=1, metavar="N", help="threads within one frame")
    cluster.add_flag(parser)
    parser.add_argument("--workers", type=cli.positive, metavar="N",
                        help="frames that are worked on at a time, each by a process; default: cores / threads")
    parser.add_argument("--segment-frames", type=cli.positive, default=500, metavar="N",
                        help="a video is cut at the next key frame after N frames")
    parser.add_argument("--tries", type=cli.positive, default=TRIES, metavar="N",
                        help="how often a segment is begun before it counts as failed")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from runtime.artifact import open_artifact
    from runtime.batch.driver import Driver
    from runtime.batch.items import find_items
    from runtime.batch.worker import BatchJob, identity
    from runtime.parcel import packed
    from runtime.sessions import engine_for
    from runtime.video import quiet_opencv

    quiet_opencv()
    artifact, file = open_artifact(args.artifact)
    engine_for(artifact, args.engine)
    _check_apart(args.source, args.out)
    items = find_items(args.source)
    this = identity(artifact.sha256, engine=args.engine, masks=args.masks, video=args.video, every=args.every)
    job = BatchJob(packed(file) if args.ray else file.absolute(), args.engine, args.threads, _absolute(args.out),
                   args.masks, args.video, args.every, args.segment_frames, this)
    _claim(job)
    driver = Driver(items, job, artifact.sha256, artifact.classes)
    with _pool(job, args) as pool:
        summary = driver.run(pool, args.tries)
    return _report(summary, args.out)


def _absolute(url: str) -> str:
    """Workers may have another working folder."""
    return url if "://" in url else os.path.abspath(url)


def _check_apart(sources: Sequence[str], out: str) -> None:
    """Refuse an output in a folder that is searched: the next run would take its masks for images."""
    for source in sources:
        if f"{_absolute(out)}/".startswith(f"{_absolute(source).rstrip('/')}/"):
            raise UserError(f"--out {out} lies in {source}, where sources are looked for; expected another place",
                            try_="--out with a folder beside it")


def _claim(job: BatchJob) -> None:
    """Say in the output whose masks it holds.

    Raises:
        UserError: it holds those of another artifact, engine or format.
    """
    from runtime.batch.store import store_at
    from runtime.batch.worker import RUN

    store = store_at(job.out)
    try:
        there = store.read(RUN).decode("utf-8", "replace")
    except FileNotFoundError:
        store.write(RUN, job.identity.encode())
        return
    if there != job.identity:
        raise UserError(f"{job.out} holds another run's masks ({' '.join(there.split())[:300]}); expected an output of "
                        "the same artifact, engine, --masks, --video and --every", try_="--out with another folder")


@contextmanager
def _pool(job: BatchJob, args: argparse.Namespace) -> Iterator[Pool]:
    from functools import partial

    from runtime.batch.worker import opened
    from runtime.tune import cores

    opening = partial(opened, job)
    if not args.ray:
        yield Processes(opening, args.workers or max(cores() // args.threads, 1))
        return
    with cluster.Cluster(args.ray) as connected:
        if connected.dashboard:
            print(f"watch the cluster at {connected.dashboard}", file=sys.stderr)
        yield connected.pool(opening, args.workers, args.threads)


def _report(summary: Summary, out: str) -> int:
    from runtime.batch.manifest import NAME

    for row in summary.failed[:_SHOWN]:
        print(f"failed: {row.source}: {row.reason}")
    if len(summary.failed) > _SHOWN:
        print(f"… and {len(summary.failed) - _SHOWN} more")
    done = summary.items - len(summary.failed)
    before = f" ({summary.skipped} by an earlier run)" if summary.skipped else ""
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    print(f"{done} of {summary.items} items done{before}: {summary.frames} frames in {summary.seconds:.1f} s, "
          f"{rate:.1f} frames/s on {', '.join(summary.nodes) or 'no machine'} → {out}, {NAME}")
    if summary.failed:
        raise Incomplete(f"{len(summary.failed)} of {summary.items} items failed; all others are done",
                         try_="the same command, which tries these again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
