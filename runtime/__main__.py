"""`python -m runtime ARTIFACT --source …`: masks on a camera, a stream, a video or images."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from runtime import board, cli
from runtime.errors import EdgesegError, UserError
from runtime.files import check_writable, write_text
from runtime.signals import Held

if TYPE_CHECKING:
    from runtime.sinks import Sink
    from runtime.stream import Stream
    from runtime.timing import StageTimes


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("runtime", "Segment a camera, a stream, a video or images with an exported network.",
                        "python -m runtime out/lraspp-360x480-fp32.onnx --source street.mp4 --save masks.mp4")
    parser.add_argument("artifact", type=Path, help="an engine file or its JSON")
    parser.add_argument("--source", required=True, help="video, image, folder of images, camera index, /dev/videoN, "
                        "rtsp/http address, GStreamer pipeline, or - for raw BGR frames on stdin")
    parser.add_argument("--size", type=cli.size, metavar="HxW",
                        help="size of the raw frames on stdin; for a camera, the size to ask it for")
    parser.add_argument("--policy", choices=("every", "latest"),
                        help="every: work on each frame; latest: drop what is stale; default: latest for cameras")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N", help="stop after N frames")
    _outputs(parser.add_argument_group("outputs"))
    _speed(parser.add_argument_group("speed"))
    _time(parser.add_argument_group("several frames at once"))
    board.add_flags(parser)
    return cli.run(lambda args: _command(args, parser), parser, argv)


def _time(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--every", type=cli.positive, default=1, metavar="N",
                       help="the network sees every Nth frame, and each that begins a new scene; the masks in between "
                       "are made from its last one")
    group.add_argument("--warp", choices=("flow", "none"), default="flow",
                       help="flow: masks in between follow the motion; none: they stay as they were")
    group.add_argument("--smooth", action="store_true", help="blend logits over time along the motion, against flicker")


def _outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--save", type=Path, metavar="FILE.mp4", help="record the overlay; plays also after a power cut")
    group.add_argument("--segment", type=cli.positive, metavar="MINUTES",
                       help="with --save: a new file, FILE-000001.mp4 and so on, every so many minutes")
    group.add_argument("--keep", type=float, metavar="GB",
                       help="with --segment: delete the oldest files before all together exceed this")
    group.add_argument("--masks", metavar="DIR|-",
                       help="write every class map as a PNG of indices, or as raw bytes on stdout")
    group.add_argument("--sheet", type=Path, metavar="FILE.png", help="write twelve overlays, evenly spread, as one")
    group.add_argument("--show", action="store_true", help="open a window; q or Esc ends")
    group.add_argument("--serve", type=cli.natural, metavar="PORT",
                       help="show the overlay on a web page of this machine")
    group.add_argument("--host", default="127.0.0.1", help="address for --serve; any other than this one lets others "
                       "on the network watch")
    group.add_argument("--stats", type=Path, metavar="FILE.json", help="write the summary as JSON")
    group.add_argument("--refine", choices=("crf",), help="sharpen outlines by a dense CRF (DeepLab v1 and v2); takes "
                       "seconds a frame")
    group.add_argument("--alpha", type=float, default=0.5, help="weight of the class colours, 0 to 1")


def _speed(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--engine", metavar="NAME", help="run the file with another engine than its format's own, such "
                       "as openvino for .onnx files; python -m export doctor lists them")
    group.add_argument("--workers", type=cli.positive, metavar="N",
                       help="frames that the engine works on at a time; default: 1")
    group.add_argument("--threads", type=cli.positive, metavar="N",
                       help="threads within one frame; default: the engine decides, or 1 with several workers")
    group.add_argument("--tune", action="store_true", help="measure here which workers and threads are fastest, and "
                       "remember it for this artifact and machine")


def _command(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from runtime.timing import StageTimes
    from runtime.video import quiet_opencv

    quiet_opencv()
    _check(args)
    if on := board.wanted(args):
        from runtime import board_stream

        return board_stream.run(args, parser, on)
    if args.tune:
        _tune(args.artifact, args.engine)
    times = StageTimes()
    broken: BaseException | None = None
    with Held() as hold:  # but for what is lifted, nothing is broken off: outputs are finished and reported
        with ExitStack() as stack:
            with hold.lifted():
                stream = _open_stream(args, stack)
                sinks = _open_sinks(args, stream, stack)
            hold.then(stream.stop)
            try:
                _run(args, stream, sinks, times)
            except EdgesegError as error:
                broken = error  # what was done so far is finished first, and then the error is reported
        _report(args, stream, times)
    if broken:
        raise broken
    return 0


def _open_stream(args: argparse.Namespace, stack: ExitStack) -> Stream:
    import cv2

    from runtime.channel import Policy
    from runtime.sources import open_source
    from runtime.stream import Stream

    stream = stack.enter_context(Stream(
        args.artifact, open_source(args.source, args.size), policy=args.policy and Policy(args.policy),
        workers=args.workers, threads=args.threads, engine=args.engine, alpha=args.alpha,
        every=args.every, warp=args.warp == "flow", smooth=args.smooth,
        draw=bool(args.save or args.sheet or args.show or args.serve is not None)))
    if args.refine:
        from runtime.refine import crf

        stream.refine = crf(stream.artifact)
    if stream.workers > 1:
        cv2.setNumThreads(1)  # the workers keep the cores busy; more threads inside OpenCV would only change places
    return stream


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is opened or made."""
    if not 0 <= args.alpha <= 1:
        raise UserError(f"--alpha {args.alpha} was received; expected a number from 0 to 1")
    if args.segment and not args.save:
        raise UserError("--segment was received without --save; expected the name of a video to cut into segments",
                        try_="--save FILE.mp4")
    if args.keep is not None and not (args.segment and 1e-3 <= args.keep < math.inf):
        raise UserError(f"--keep {args.keep:g} was received; expected at least 0.001 (GB), and --segment with it, as "
                        "whole files are deleted", try_="--segment 10 --keep 8")
    for path in (args.save, args.sheet, args.stats):
        if path:
            check_writable(path)
    if args.masks not in (None, "-") and Path(args.masks).exists() and not Path(args.masks).is_dir():
        raise UserError(f"cannot write masks into {args.masks}: it is not a folder; expected one, or - for stdout")


def _tune(path: Path, engine: str | None) -> None:
    from runtime import tune
    from runtime.artifact import open_artifact

    artifact, file = open_artifact(path)
    tuning = tune.tune(artifact, file, engine)
    kept = tune.remember(artifact, tuning, engine)
    print(f"tuned (workers x threads): {', '.join(f'{name} {fps:.1f} FPS' for name, fps in tuning.fps.items())}; "
          f"remembered in {kept}", file=sys.stderr)


def _open_sinks(args: argparse.Namespace, stream: Stream, stack: ExitStack) -> list[Sink]:
    """The sinks that were asked for, each closed by `stack`. Those that may refuse come before those that make things.
    """
    from runtime.channel import Policy
    from runtime.serve import Server
    from runtime.sinks import Pngs, RawMasks, Sheet, Video, Window
    from runtime.watchdog import Watchdog, notify_socket

    sinks: list[Sink] = []

    def add(sink: Sink) -> None:
        sinks.append(sink)
        stack.callback(sink.close)

    if args.show:
        add(Window())
    if args.serve is not None:
        server = Server(stream.artifact.name, stream.artifact.classes, stream.artifact.palette, args.serve, args.host)
        add(server)
        print(f"watch it at {server.url}", file=sys.stderr)
    if args.save:
        source = stream.source
        add(Video(args.save, source.fps, minutes=args.segment, keep_bytes=args.keep and int(args.keep * 1e9),
                  evenly=stream.policy is Policy.EVERY and not source.fps and not source.live))
    if args.sheet:
        add(Sheet(args.sheet))
    if args.masks:
        add(RawMasks() if args.masks == "-" else Pngs(Path(args.masks)))
    if address := notify_socket():
        add(Watchdog(address))  # the last one: a frame counts when all others have taken it
    return sinks


def _run(args: argparse.Namespace, stream: Stream, sinks: Sequence[Sink], times: StageTimes) -> None:
    """Write each result; everything before that happens in the stream's own threads."""
    from runtime.sinks import Enough

    total = min(stream.source.count, args.max_frames or stream.source.count)
    results: Iterator[Any] = iter(stream)
    for result in cli.progress(islice(results, args.max_frames), total, "segmenting"):
        start = perf_counter()
        try:
            for sink in sinks:
                sink.write(result)
        except Enough:
            return
        write_ms = 1e3 * (perf_counter() - start)
        times.add({**result.stages_ms, "write": write_ms, "end to end": result.age_ms + write_ms})


def _report(args: argparse.Namespace, stream: Stream, times: StageTimes) -> None:
    if not times.frames:
        return
    summary = times.summary()
    if args.stats:
        record = {"artifact": os.fspath(args.artifact), "source": args.source, "policy": stream.policy.value,
                  "dropped": stream.dropped, **summary}
        write_text(args.stats, json.dumps(record, indent=2) + "\n")
    out = sys.stderr if args.masks == "-" else sys.stdout
    print(times.table(), file=out)
    saved = [str(path) for path in (args.save, args.masks, args.sheet, args.stats) if path and path != "-"]
    dropped = f", {stream.dropped} dropped" if stream.dropped else ""
    print(f"{times.frames} frames at {summary['fps']:.1f} FPS{dropped}" + (f" → {', '.join(saved)}" if saved else ""),
          file=out)


if __name__ == "__main__":
    sys.exit(main())
