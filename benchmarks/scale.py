"""How a batch of videos grows with workers: processes of this machine against a Ray cluster of nodes on it, in turns.

The clock runs from when all workers have opened the artifact until the last segment is written, so that it holds what
is paid for every segment: decode, inference, masks on the disk, and the way of the task there and of its outcome back.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from runtime import cli, cluster
from runtime.errors import Incomplete, UserError
from runtime.workers import Pool, Processes, Worker, spread

Pools = dict[str, Callable[[int], Pool]]


class StartedPool:
    """A pool whose workers are all ready: a clock that starts now does not see them open anything.

    Args:
        pool: where they come from.
    """

    def __init__(self, pool: Pool) -> None:
        self.count = pool.count
        self._workers = [pool.start_worker() for _ in range(pool.count)]
        for worker in self._workers:
            _, error = worker.ready.result()
            if error:
                raise Incomplete(f"a worker could not start: {error}")

    def start_worker(self) -> Worker:
        """One of them. Whoever asks for more than `count` has lost one, and the run is no measurement."""
        if not self._workers:
            raise Incomplete("a worker died; expected all of them to work until the end", try_="the same command")
        return self._workers.pop()


def frames_per_second(pool: Pool, segments: Sequence[Any]) -> float:
    """All segments' frames by the time from the first task given to the last outcome.

    Raises:
        Incomplete: a segment failed, or a worker died.
    """
    started = StartedPool(pool)
    frames, began = 0, perf_counter()
    ended = began
    for outcome in spread(started, deque(segments), tries=1):
        ended = perf_counter()
        if outcome.error:
            raise Incomplete(f"a segment failed: {outcome.error}; expected all to be done", try_="the same command")
        frames += outcome.value.frames
    return frames / (ended - began)


@contextmanager
def _pools(opening: Callable[[], Any], most: int) -> Iterator[Pools]:
    """Processes, and a cluster of as many nodes of one core as there are workers at most, beside a head that rests."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")  # Ray's workers are nice, processes are not
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(most):
            nodes.add_node(num_cpus=1)
        with cluster.Cluster(nodes.address) as connected:
            yield {"processes": lambda count: Processes(opening, count),
                   "ray": lambda count: connected.pool(opening, count)}
    finally:
        nodes.shutdown()


def _command(args: argparse.Namespace) -> int:
    from runtime.artifact import open_artifact
    from runtime.batch.cut import segments_of
    from runtime.batch.items import find_items
    from runtime.batch.store import store_at
    from runtime.batch.worker import RUN, BatchJob, identity, opened
    from runtime.parcel import packed

    cli.need("nodes on this machine", "cluster", "ray")
    artifact, file = open_artifact(args.artifact)
    segments = [segment for item in find_items([str(args.source)])
                for segment in segments_of(item, args.segment_frames)][:args.segments]
    if len(segments) < args.workers:
        raise UserError(f"{args.source} has {len(segments)} segments of {args.segment_frames} frames; expected one for "
                        f"each of {args.workers} workers", try_="--segment-frames with a smaller number")
    print(f"{len(segments)} segments, {sum(segment.frames for segment in segments)} frames of {args.source}")
    found: dict[tuple[int, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as out:
        this = identity(artifact.sha256)
        store_at(out).write(RUN, this.encode())
        job = BatchJob(packed(file), None, 1, out, "png", False, 1, args.segment_frames, this)
        with _pools(partial(opened, job), args.workers) as pools:
            for turn in range(args.rounds):
                for count in range(1, args.workers + 1):
                    for name in sorted(pools, reverse=bool(turn % 2)):
                        found.setdefault((count, name), []).append(frames_per_second(pools[name](count), segments))
                print(f"round {turn + 1}, load {os.getloadavg()[0]:.1f}: " + ", ".join(
                    f"{count} {name} {rates[-1]:.1f}" for (count, name), rates in found.items()), flush=True)
    for count in range(1, args.workers + 1):
        print(_summary(count, found[count, "processes"], found[count, "ray"]))
    return 0


def _summary(count: int, processes: Sequence[float], ray: Sequence[float]) -> str:
    """One line: medians with what was least and most, and the time that Ray takes more, from the rounds' ratios."""
    more = [100 * (here / there - 1) for here, there in zip(processes, ray)]
    return f"{count} worker{'s' * (count > 1)}: " + ", ".join(
        f"{name} {statistics.median(values):.1f} {unit} ({min(values):.1f} to {max(values):.1f})"
        for name, values, unit in (("processes", processes, "frames/s"), ("Ray", ray, "frames/s"),
                                   ("Ray takes more by", more, "%")))


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks scale`."""
    parser = cli.parser("benchmarks scale", "Frames a second against workers, with local processes and with Ray.",
                        "python -m benchmarks scale out/lraspp-360x480-fp32.onnx --source videos/day.mp4")
    parser.add_argument("artifact", type=Path, help="an engine file or its JSON")
    parser.add_argument("--source", type=Path, required=True, metavar="FILE", help="a video")
    parser.add_argument("--workers", type=cli.positive, default=2, metavar="N", help="measure with 1 to N workers")
    parser.add_argument("--rounds", type=cli.positive, default=5, metavar="N",
                        help="how often everything is measured, in turns")
    parser.add_argument("--segment-frames", type=cli.positive, default=40, metavar="N",
                        help="the video is cut at the next key frame after N frames")
    parser.add_argument("--segments", type=cli.positive, default=8, metavar="N", help="work on the first N")
    return cli.run(_command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
