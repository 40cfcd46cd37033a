"""Our float32 files against plain conversions of the same network, frame to mask, in the same engines; in one run.

    python -m benchmarks stock lraspp-small

Plain is what a user has without us: the maker's converter on the network with its full-size logits, and around it
OpenCV's colours, numpy's normalisation and numpy's argmax. The engines themselves are set alike on both sides. Beside
that stand the engines alone, both sides returning logits at the network's stride.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

from benchmarks.latency import engine_names
from runtime import cli
from runtime.errors import GateFailed, UserError
from runtime.turns import turn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from calibration.judge.intervals import Interval
    from export.request import Request
    from runtime.preprocess import Frame, Preprocess
    from runtime.sessions import Session

    Mask = npt.NDArray[np.uint8]

ROUNDS, FRAMES = 20, 12
"""Turns of each contender, and frames in a turn; the first of them warms up."""
SAME = 0.999
"""Share of pixels that must have the same class on both sides, or they are not the same network."""
TARGET = 0.95
"""What our fastest engine may take of a plain conversion's time in that engine."""


@dataclass
class Contender:
    """Something to be timed, and its milliseconds turn by turn."""

    run: Callable[[Frame], Any]
    times: list[list[float]] = field(default_factory=list)

    def take(self, frames: Sequence[Frame], count: int) -> None:
        """One turn."""
        which = cycle(frames)
        self.times.append(turn(lambda: self.run(next(which)), count - 1))


@dataclass(frozen=True)
class Duel:
    """Ours and the plain conversion in one engine: from frame to mask, and the engine alone."""

    engine: str
    ours: Contender
    plain: Contender
    ours_alone: Contender
    plain_alone: Contender

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """All four."""
        return self.ours, self.plain, self.ours_alone, self.plain_alone

    @property
    def ratio(self) -> Interval:
        """What ours takes of the plain one's time from frame to mask."""
        return _ratio(self.ours, self.plain)

    @property
    def ratio_alone(self) -> Interval:
        """The same of the engines alone."""
        return _ratio(self.ours_alone, self.plain_alone)


def _ratio(ours: Contender, plain: Contender) -> Interval:
    from calibration.judge.intervals import ratio_interval

    return ratio_interval(plain.times, ours.times, paired=True)


def normalised(preprocess: Preprocess, frame: Frame) -> npt.NDArray[np.float32]:
    """A frame as a network's own code makes its input: float32 [1, 3, H, W]."""
    import cv2
    import numpy as np

    height, width = preprocess.size
    if frame.shape[:2] != (height, width):
        frame = np.asarray(cv2.resize(frame, (width, height)), np.uint8)
    pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if preprocess.colour_order == "rgb" else frame
    x = (pixels.astype(np.float32) / 255 - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[np.newaxis])


def plain_mask(session: Session, preprocess: Preprocess, frame: Frame) -> Mask:
    """uint8 [H, W, 3] BGR at input size → uint8 [H, W], through full-size logits."""
    import numpy as np

    y = session.run(normalised(preprocess, frame))[0]  # type: ignore[arg-type]  # a plain file takes floats
    return np.asarray(y.argmax(0), np.uint8)


def bare_session(engine: str, path: Path) -> Session:
    """A file that is no artifact, in an engine with the settings that artifacts get."""
    module = importlib.import_module(f"runtime.sessions.{engine}")
    session: Session = getattr(module, f"{engine.capitalize()}Session")(path)
    return session


def engines_here(wanted: Sequence[str | None]) -> dict[str, list[str]]:
    """Target with a plain converter → engines that read it here; all where `wanted` is (None,).

    Raises:
        UserError: one that is wanted cannot take part.
    """
    from export.target import targets
    from runtime.sessions import engines, readers

    able = {target: [name for name in readers(target) if not engines()[name].hindrance() and name.isidentifier()]
            for target, entry in targets().items() if find_spec(f"export.{target}.stock") and not entry.hindrance()}
    if lost := [name for name in wanted if name and not any(name in names for names in able.values())]:
        here = ", ".join(name for names in able.values() for name in names)
        raise UserError(f"{lost[0]} has no plain conversion here to stand against; expected some of {here}",
                        try_="python -m export doctor")
    found = {target: [name for name in names if None in wanted or name in wanted] for target, names in able.items()}
    return {target: names for target, names in found.items() if names}


def duels(wanted: Request, targets: dict[str, list[str]], out: Path, stack: ExitStack) -> list[Duel]:
    """Convert both ways, and open everything in every engine; `stack` closes it."""
    import torch

    from export.build import build
    from export.stock import Plain
    from export.target import Job
    from runtime.segmenter import Segmenter

    spec, found = wanted.spec, list[Duel]()
    x = torch.zeros(1, 3, *spec.preprocess.size)
    for target, names in targets.items():
        ours = build(target, Job(wanted, out, say=lambda line: print(line, flush=True)))
        files = {}
        for kind, corners in (("full", spec.align_corners), ("low", None)):
            files[kind] = ours.with_name(f"{ours.stem}-stock-{kind}{ours.suffix}")
            print(f"{files[kind]}: plain conversion", flush=True)
            module = importlib.import_module(f"export.{target}.stock")
            module.converted(Plain(wanted.network, corners).eval(), x, files[kind])
        for engine in names:
            segmenter = stack.enter_context(Segmenter.open(ours, engine=engine))
            full, low = (bare_session(engine, files[kind]) for kind in ("full", "low"))
            stack.callback(full.close)
            stack.callback(low.close)
            found.append(_duel(engine, segmenter, full, low, spec.preprocess))
    return found


def _duel(engine: str, segmenter: Any, full: Session, low: Session, preprocess: Preprocess) -> Duel:
    cache: dict[int, Any] = {}

    def ready(frame: Frame) -> Any:
        """The plain engine's input, made before its clock starts."""
        return cache.setdefault(id(frame), normalised(preprocess, frame))

    return Duel(engine, Contender(segmenter), Contender(lambda frame: plain_mask(full, preprocess, frame)),
                Contender(lambda frame: segmenter.infer(frame[None])), Contender(lambda frame: low.run(ready(frame))))


def check_same(found: Sequence[Duel], frames: Sequence[Frame]) -> float:
    """The smallest share of pixels of a frame that have the same class on both sides of a duel.

    Raises:
        GateFailed: it is below `SAME`.
    """
    import numpy as np

    worst = min(float(np.mean(duel.ours.run(frame).mask == duel.plain.run(frame)))
                for duel in found for frame in frames)
    if worst < SAME:
        raise GateFailed(f"{worst:.2%} of pixels have the class of the plain conversion; {SAME:.1%} are needed for the "
                         "two to be the same network")
    return worst


def measured(found: Sequence[Duel], frames: Sequence[Frame], rounds: int = ROUNDS, count: int = FRAMES) -> None:
    """All contenders once in each round, in a new order."""
    order = random.Random(0)
    everyone = [contender for duel in found for contender in duel.contenders]
    for duel in found:
        for frame in frames:  # the inputs of the plain engines are made here
            duel.plain_alone.run(frame)
    for _ in cli.progress(range(rounds), rounds, "rounds"):
        for contender in order.sample(everyone, len(everyone)):
            contender.take(frames, count)


def table(found: Sequence[Duel]) -> str:
    """One line for each engine, the fastest of ours first."""
    from benchmarks.page.text import aligned
    from calibration.judge.intervals import median

    sides = ("ours ms", "plain ms", "ours / plain [95 %]")
    rows: list[tuple[str, ...]] = [("engine", *sides, *(f"alone: {title}" for title in sides))]
    for duel in found:
        ours, plain, *alone = (f"{median(contender.times):.2f}" for contender in duel.contenders)
        rows.append((duel.engine, ours, plain, _interval(duel.ratio), *alone, _interval(duel.ratio_alone)))
    return "\n".join(aligned(rows))


def _interval(values: Interval) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*values)


def sentence(name: str, best: Duel) -> str:
    """Whether our fastest engine meets the target."""
    verdict = "met" if best.ratio[2] <= TARGET else "missed" if best.ratio[1] > TARGET else "not decided"
    return (f"{name}: our fastest is {best.engine}, and takes {_interval(best.ratio)} of a plain conversion's time "
            f"there from frame to mask, {_interval(best.ratio_alone)} in the engine alone; at most {TARGET} from frame "
            f"to mask: {verdict}")


def command(args: argparse.Namespace) -> int:
    """Convert, compare, tell."""
    cli.need("exporting", "export", "onnx", "torch")
    cli.check_folder(args.out)
    from benchmarks import conditions
    from benchmarks.machine import core_count, describe
    from benchmarks.worker import input_frames
    from calibration.judge.intervals import median
    from export.request import request

    targets = engines_here(args.engines)
    wanted = request(args.name, size=args.size)
    frames = input_frames(wanted.spec.preprocess.size, args.frames and str(args.frames))
    with ExitStack() as stack:
        found = duels(wanted, targets, args.out, stack)
        same = check_same(found, frames)
        before, own = conditions.snapshot(), process_time()
        measured(found, frames, args.rounds)
        meanwhile = conditions.between(before, conditions.snapshot(), process_time() - own)
    found.sort(key=lambda duel: median(duel.ours.times))
    height, width = wanted.spec.preprocess.size
    print(f"{wanted.spec.name} {height}x{width}, {describe()['cpu']}, {core_count()} cores, load {conditions.load()}; "
          f"{args.rounds} rounds in turns of {FRAMES} frames; {same:.2%} of pixels alike at least", table(found),
          *(f"INVALID: {reason}" for reason in meanwhile.complaints()), sentence(wanted.spec.name, found[0]), sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks stock`."""
    parser = cli.parser("benchmarks stock", "Measure our float32 files against plain conversions of the same network "
                        "in the same engines, from frame to full-size mask.",
                        "python -m benchmarks stock lraspp-small")
    parser.add_argument("name", metavar="NAME", help="network, as `python -m export.models` lists them; or your own")
    parser.add_argument("--engines", type=engine_names, default=[None], metavar="NAME,...",
                        help="which of them; default: all that have a plain conversion here")
    parser.add_argument("--size", type=cli.size, metavar="HxW", help="input size; default: the network's own")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="images to run on; default: drawn frames")
    parser.add_argument("--rounds", type=cli.positive, default=ROUNDS, help="how often each takes its turn")
    parser.add_argument("--out", type=Path, default=Path("out/stock"), metavar="DIR", help="folder for the files")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
