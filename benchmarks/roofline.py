"""How close a network comes to what the machine can do, layer by layer, and what holds each kind of layer back."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from benchmarks.ceilings import Ceilings
    from benchmarks.kernels import Kernel
    from benchmarks.measurement import Measurement

PROFILED = "onnx"
"""The engine whose profiler times each kernel."""
RUNS = 40
REPORTED_SHARE = 0.01
"""Kinds of layers that take a smaller share of the time are left out of the text."""
KINDS = {"depthwise": "depthwise convolutions", "1x1": "1x1 convolutions", "KxK": "other convolutions",
         "product": "matrix products", "reorder": "layout changes of the engine", "other": "all other kernels"}


def measure(path: Path, threads: int | None = None, runs: int = RUNS, command: str | None = None) -> Measurement:
    """Profile an ONNX artifact and measure the machine's ceilings, in the same run.

    Args:
        path: the artifact.
        threads: for the network and for the ceilings; None for one per core.
        runs: of the network under the profiler.
        command: for the row; None for the command that is running.

    Raises:
        UserError: not an artifact of ONNX Runtime.
    """
    import onnx

    from benchmarks import conditions, machine
    from benchmarks.ceilings import measured_ceilings
    from benchmarks.graph_cost import cost_of_graph
    from benchmarks.kernels import kernels_from_events
    from benchmarks.measurement import row
    from calibration.data.frames import drawn_frame
    from runtime.artifact import open_artifact
    from runtime.sessions import open_session
    from runtime.sessions.onnx import profile

    artifact, engine = open_artifact(path)
    if artifact.target != PROFILED:
        raise UserError(f"{engine.name} is for {artifact.target!r}; expected one for ONNX Runtime's profiler",
                        try_=f"python -m export.{PROFILED} {artifact.name}")
    count = threads or machine.core_count()
    x = drawn_frame(artifact.preprocess.size, 0)[None]
    before, own = conditions.snapshot(), process_time()
    ceilings = measured_ceilings(count)
    session = open_session(artifact, engine, threads=count)
    plain_ms = _median_ms(lambda: session.run(x), runs)
    session.close()
    events = profile(engine, x, count, runs)
    meanwhile = conditions.between(before, conditions.snapshot(), process_time() - own)
    cost = cost_of_graph(onnx.load(engine), artifact.preprocess.size if 0 in artifact.input.shape else None)
    kernels = kernels_from_events(events, cost.layers)
    return row("layers", artifact, values(kernels, ceilings, plain_ms, cost.flops), engine=PROFILED, samples=runs,
               machine=machine.describe(), command=command, invalid=meanwhile.complaints(),
               details={"layers": [dataclasses.asdict(kernel) for kernel in kernels], "ceiling_threads": count,
                        "words": words(artifact.name, kernels, ceilings, plain_ms, cost.flops)})


def _median_ms(action: Any, runs: int) -> float:
    import statistics

    times = []
    for _ in range(runs):
        start = perf_counter()
        action()
        times.append(1e3 * (perf_counter() - start))
    return statistics.median(times[runs // 4:])


def values(kernels: Sequence[Kernel], ceilings: Ceilings, plain_ms: float, flops: int) -> dict[str, float]:
    """The row's figures; `plain_ms` is the time of a frame without the profiler."""
    attained = flops / plain_ms / 1e6
    found = sum(kernel.flops for kernel in kernels if not kernel.by_shape)
    return {"peak_gflops": ceilings.gflops, "peak_gbytes": ceilings.gbytes, "ridge": ceilings.ridge,
            "plain_ms": plain_ms, "kernels_ms": sum(kernel.ms for kernel in kernels), "attained_gflops": attained,
            "share_of_peak": attained / ceilings.gflops, "attributed_share": found / flops if flops else 0.0}


def words(name: str, kernels: Sequence[Kernel], ceilings: Ceilings, plain_ms: float, flops: int) -> list[str]:
    """What the figures say, one sentence each: the network first, then the kinds of layers by the time they take."""
    v = values(kernels, ceilings, plain_ms, flops)
    on = f"{ceilings.threads} thread{'s' if ceilings.threads > 1 else ''}"
    first = (f"{name} runs at {100 * v['share_of_peak']:.0f} % of this processor's peak: {v['attained_gflops']:.0f} of "
             f"{ceilings.gflops:.0f} GFLOP/s on {on}.")
    lines = [first]
    total = sum(kernel.ms for kernel in kernels)
    grouped = {kind: [kernel for kernel in kernels if kernel.kind == kind] for kind in KINDS}
    for kind, group in sorted(grouped.items(), key=lambda item: -sum(kernel.ms for kernel in item[1])):
        if group and sum(kernel.ms for kernel in group) >= REPORTED_SHARE * total:
            lines.append(_about(KINDS[kind], group, total, ceilings))
    return lines


def _about(kind: str, kernels: Sequence[Kernel], total_ms: float, ceilings: Ceilings) -> str:
    ms, flops = sum(k.ms for k in kernels), sum(k.flops for k in kernels)
    moved = sum(k.bytes for k in kernels)
    start = f"{kind[0].upper()}{kind[1:]} take {100 * ms / total_ms:.0f} % of the time"
    memory = 100 * moved / ms / 1e6 / ceilings.gbytes
    if not flops:
        return f"{start} and multiply nothing; they move data at {memory:.0f} % of a memory copy's speed."
    intensity = flops / moved
    compute = 100 * flops / ms / 1e6 / ceilings.gflops
    bound = "memory-bound" if intensity < ceilings.ridge else "compute-bound"
    cached = " (more than 100 %: their data stays in the caches)" if memory > 100 else ""
    return (f"{start} and are {bound}: {intensity:.1f} FLOP per byte, the ridge is at {ceilings.ridge:.1f}. They reach "
            f"{compute:.0f} % of the peak and {memory:.0f} % of a memory copy's speed{cached}.")


def layer_table(entry: Measurement, count: int) -> str:
    """The `count` slowest kernels."""
    lines = [f"{'kernel':32}{'operator':16}{'kind':>11}{'ms':>9}{'GFLOP/s':>9}{'GB/s':>8}{'of roof':>9}"]
    peak, speed = entry.values["peak_gflops"], entry.values["peak_gbytes"]
    for layer in sorted(entry.details["layers"], key=lambda layer: -layer["ms"])[:count]:
        rate, moved = (layer[key] / layer["ms"] / 1e6 for key in ("flops", "bytes"))
        roof = min(peak, layer["flops"] / layer["bytes"] * speed) if layer["flops"] else 0
        share = rate / roof if roof else moved / speed
        lines.append(f"{layer['name'][:31]:32}{layer['op']:16}{layer['kind']:>11}{layer['ms']:>9.3f}{rate:>9.1f}"
                     f"{moved:>8.1f}{share:>9.0%}")
    return "\n".join(lines)


def command(args: argparse.Namespace) -> int:
    """Measure, print, and keep the row where asked."""
    cli.need("counting layers", "export", "onnx")
    from benchmarks.measurement import append

    for path in args.artifacts:
        entry = measure(path, args.threads)
        if args.rows:
            append(args.rows, [entry])
        v = entry.values
        print(layer_table(entry, args.layers), *entry.details["words"], sep="\n")
        print(f"ceilings: {v['peak_gflops']:.0f} GFLOP/s (matrix product), {v['peak_gbytes']:.1f} GB/s (copy, read + "
              f"written); {v['plain_ms']:.2f} ms a frame, {v['kernels_ms']:.2f} ms in kernels under the profiler; "
              f"{v['attributed_share']:.1%} of the MACs led back to the graph")
        for reason in entry.invalid:
            print(f"INVALID {entry.label}: {reason}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks roofline`."""
    parser = cli.parser("benchmarks roofline", "Compare each layer's speed with what this machine can do.",
                        "python -m benchmarks roofline out/lraspp-360x480-fp32.onnx --rows rows.jsonl")
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="ONNX artifacts")
    parser.add_argument("--threads", type=cli.positive, help="threads within one frame; default: one per core")
    parser.add_argument("--layers", type=cli.positive, default=12, metavar="N", help="list the N slowest kernels")
    parser.add_argument("--rows", type=Path, metavar="FILE.jsonl", help="add the rows to this file, for the report")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
