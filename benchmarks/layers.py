"""Where two engines differ on one network, layer by layer, by each engine's own profile; all in turns within one run.

    python -m benchmarks layers dfanet-a --engines onnx,litert

An engine fuses and renames what a file holds. Its kernels are led back to the layers of the file, each with all that
runs before the next one. Between two files, the k-th layer of a kind of kernel and a size of map in one is the k-th of
them in the other, as both list their layers in the order in which torch traced them.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from benchmarks.latency import engine_names
from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from calibration.judge.intervals import Rounds
    from export.layers import TimedLayer
    from runtime.artifact import Artifact
    from runtime.preprocess import Frame

RUNS = 12
"""Frames of a turn: as many under the profiler as without it."""
MOST = 0.7
"""The sentence names the kinds of layers that make up this share of the difference, at most three."""


@dataclass
class Side:
    """A file in an engine, and what its turns have brought.

    Attributes:
        frames: milliseconds of whole frames without the profiler, turn by turn.
        turns: the file's layers, turn by turn.
    """

    artifact: Artifact
    path: Path
    engine: str
    frames: list[list[float]] = field(default_factory=list)
    turns: list[list[TimedLayer]] = field(default_factory=list)

    def take(self, x: Frame, runs: int) -> None:
        """One turn more: frames without the profiler, and as many with it."""
        from calibration.judge.costs import profiler
        from export.quiet import quiet
        from runtime.sessions import open_session

        profile = profiler(self.engine)
        assert profile is not None
        with quiet():
            with closing(open_session(self.artifact, self.path, engine=self.engine)) as session:
                self.frames.append([_ms(session, x) for _ in range(runs)][runs // 4:])
            kernels = profile(self.path, x, runs)
        self.turns.append(importlib.import_module(f"export.{self.artifact.target}.layers").timed(self.path, kernels))


def _ms(session: Any, x: Frame) -> float:
    start = perf_counter()
    session.run(x)
    return 1e3 * (perf_counter() - start)


@dataclass(frozen=True)
class MatchedLayer:
    """One layer on both sides: milliseconds turn by turn, each turn a list of its own; none where a side lacks it."""

    name: str
    what: str
    times: tuple[Rounds, Rounds]

    @property
    def ms(self) -> tuple[float, float]:
        """Median of each side."""
        return _median(self.times[0]), _median(self.times[1])

    @property
    def more(self) -> float:
        """By how many milliseconds the first side's median is the longer one."""
        return self.ms[0] - self.ms[1]


def pairs(one: Side, other: Side) -> list[MatchedLayer]:
    """The layers of two files, matched by shape and order or else by name, in the first one's order; then those that
    only one of them has."""
    places: list[dict[Any, list[int]]] = []
    for side in (one, other):
        found = defaultdict[Any, list[int]](list)
        for place, layer in enumerate(side.turns[0]):
            found[layer.shape].append(place)
        places.append(found)
    both = [(a, b) for shape, mine in places[0].items() for a, b in zip(mine, places[1][shape])]
    mine, theirs = ({match[side] for match in both} for side in (0, 1))
    named = {layer.name: place for place, layer in enumerate(other.turns[0]) if layer.name and place not in theirs}
    both += [(place, named.pop(layer.name)) for place, layer in enumerate(one.turns[0])
             if place not in mine and layer.name in named]
    mine, theirs = ({match[side] for match in both} for side in (0, 1))
    return [*(_pair(one, other, a, b) for a, b in sorted(both)),
            *(_pair(one, other, a, None) for a in range(len(one.turns[0])) if a not in mine),
            *(_pair(one, other, None, b) for b in range(len(other.turns[0])) if b not in theirs)]


def _pair(one: Side, other: Side, a: int | None, b: int | None) -> MatchedLayer:
    layers = [side.turns[0][place] for side, place in ((one, a), (other, b)) if place is not None]
    times = [[[0.0 if place is None else turn[place].ms] for turn in side.turns] for side, place in
             ((one, a), (other, b))]
    return MatchedLayer(max((layer.name for layer in layers), key=len), str(layers[0]), (times[0], times[1]))


def measured(one: Side, other: Side, rounds: int, runs: int = RUNS) -> tuple[list[MatchedLayer], tuple[str, ...]]:
    """Run both in turns.

    Returns:
        Every layer, the largest difference first; and what speaks against the figures.
    """
    from benchmarks import conditions
    from calibration.data.frames import drawn_frame

    x = drawn_frame(one.artifact.preprocess.size, 0)[None]
    before, own, order = conditions.snapshot(), process_time(), random.Random(0)
    for _ in cli.progress(range(rounds), rounds, "turns"):
        for side in order.sample((one, other), 2):
            side.take(x, runs)
    meanwhile = conditions.between(before, conditions.snapshot(), process_time() - own)
    return sorted(pairs(one, other), key=lambda pair: -abs(pair.more)), meanwhile.complaints()


def labels(one: Side, other: Side) -> tuple[str, str]:
    """What tells the two apart: their engines, or else their files."""
    return (one.engine, other.engine) if one.engine != other.engine else (one.path.name, other.path.name)


def table(found: Sequence[MatchedLayer], names: tuple[str, str], count: int) -> str:
    """The `count` layers that differ most, and the rest in one line."""
    from benchmarks.page.text import aligned
    from calibration.judge.intervals import difference_interval

    rows: list[tuple[str, ...]] = [("layer", "what", *(f"{name} ms" for name in names), "difference [95 %]")]
    for pair in found[:count]:
        more, low, high = difference_interval(pair.times[1], pair.times[0])
        rows.append((pair.name, pair.what, *(f"{ms:.3f}" for ms in pair.ms), f"{more:+.3f} [{low:+.3f}, {high:+.3f}]"))
    if rest := found[count:]:
        sums = [sum(pair.ms[side] for pair in rest) for side in (0, 1)]
        rows.append((f"{len(rest)} others", "", *(f"{ms:.3f}" for ms in sums), f"{sums[0] - sums[1]:+.3f}"))
    return "\n".join(aligned(rows, left=2))


def sentence(one: Side, other: Side, found: Sequence[MatchedLayer]) -> str:
    """How long a frame takes in each, and which kinds of layers make up the difference."""
    from calibration.judge.intervals import ratio_interval

    names = labels(one, other)
    ratio, low, high = ratio_interval(other.frames, one.frames, paired=True)
    first = (f"{one.artifact.name}: {names[0]} {_median(one.frames):.1f} ms, {names[1]} {_median(other.frames):.1f} ms "
             f"a frame, {ratio:.2f} [{low:.2f}, {high:.2f}] times as long")
    if low <= 1 <= high:
        return f"{first}: equally long, as far as this run can tell"
    total = sum(pair.more for pair in found)
    kinds = defaultdict[str, list[MatchedLayer]](list)
    for pair in found:
        kinds[pair.what].append(pair)
    ordered = sorted(kinds.items(), key=lambda item: -sum(pair.more for pair in item[1]) * (1 if total > 0 else -1))
    parts, covered = list[str](), 0.0
    for what, group in ordered[:3]:
        if covered < MOST * abs(total):
            a, b = (sum(pair.ms[side] for pair in group) for side in (0, 1))
            covered += abs(a - b)
            parts.append(f"{f'{len(group)} x ' if len(group) > 1 else ''}{what} ({a:.2f} against {b:.2f} ms)")
    share = f"{100 * covered / abs(total):.0f} % of" if covered < abs(total) else "all"
    return f"{first}; {share} the difference in {'; '.join(parts)}"


def _median(rounds: Rounds) -> float:
    from calibration.judge.intervals import median

    return median(rounds)


def sides(words: Sequence[str], engines: Sequence[str], out: Path) -> tuple[Side, Side]:
    """The two files and engines that are compared.

    Args:
        words: artifacts, or networks, which are exported in float32 for each engine.
        engines: names; each runs those of the files that it reads.
        out: for what is exported.

    Raises:
        UserError: they do not make two, or one of them cannot be profiled.
    """
    from calibration.judge.costs import profiler
    from runtime import sessions
    from runtime.artifact import json_path, open_artifact

    known = sessions.engines()
    for name in engines:
        if profiler(name) is None:
            able = ", ".join(entry for entry in known if profiler(entry))
            raise UserError(f"{known[name].title} does not say what each of its kernels takes; expected some of {able}")
        if hindrance := known[name].hindrance():
            raise UserError(f"{known[name].title} cannot run here ({hindrance}); expected engines that can",
                            try_="python -m export doctor")
    found = []
    for word in words:
        there = json_path(Path(word)).is_file()
        for name in engines:
            artifact, path = open_artifact(Path(word) if there else _exported(word, known[name].reads[0], out))
            if artifact.target in known[name].reads:
                found.append(Side(artifact, path, name))
    if len(found) != 2:
        raise UserError(f"{', '.join(words)} with {', '.join(engines)} makes {len(found)} pairs of a file and an "
                        "engine that reads it; expected two",
                        try_="python -m benchmarks layers dfanet-a --engines onnx,litert")
    return found[0], found[1]


def _exported(name: str, target: str, out: Path) -> Path:
    from export.build import build
    from export.request import request
    from export.target import Job

    return build(target, Job(request(name), out, say=lambda line: print(f"{target}: {line}", flush=True)))


def command(args: argparse.Namespace) -> int:
    """Measure, and tell."""
    from benchmarks.machine import core_count, describe

    cli.need("reading layers", "export", "onnx")
    cli.check_folder(args.out)
    one, other = sides(args.names, args.engines, args.out)
    found, complaints = measured(one, other, args.rounds)
    print(f"{one.artifact.name}, {describe()['cpu']}, {core_count()} cores; {args.rounds} rounds in turns, of {RUNS} "
          f"frames with and {RUNS} without the profiler", table(found, labels(one, other), args.layers),
          *(f"INVALID: {reason}" for reason in complaints), sentence(one, other, found), sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks layers`."""
    parser = cli.parser("benchmarks layers", "Say in which layers two engines differ most on one network, or one "
                        "engine on two files, by the engines' own profiles.",
                        "python -m benchmarks layers dfanet-a --engines onnx,litert")
    parser.add_argument("names", nargs="+", metavar="NAME", help="an artifact, or a network, which is exported in "
                        "float32 for each engine")
    parser.add_argument("--engines", type=engine_names, required=True, metavar="NAME,...",
                        help="two for one file or network, or one for two files")
    parser.add_argument("--rounds", type=cli.positive, default=10, help="how often each takes its turn")
    parser.add_argument("--layers", type=cli.positive, default=12, metavar="N",
                        help="list the N layers that differ most")
    parser.add_argument("--out", type=Path, default=Path("out/layers"), metavar="DIR", help="folder for artifacts")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
