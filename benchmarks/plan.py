"""What a sweep is asked for: which artifacts, on which engines, measured with what and where."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import cli

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from runtime.board import Board

Say = Callable[[str], None]
Make = Callable[["SweepItem", "Sweep", Say], Path]

ROWS = "rows.jsonl"


@dataclass(frozen=True)
class SweepItem:
    """One artifact that is wanted; `weights` as the exporters' flag, None for the bundled ones; `form` where there are
    several of one precision: the engine that it is made for, or the quantiser that made it."""

    name: str
    size: tuple[int, int]
    target: str
    precision: str
    weights: str | None
    form: str = ""

    @property
    def size_text(self) -> str:
        """HxW."""
        return f"{self.size[0]}x{self.size[1]}"

    def __str__(self) -> str:
        return f"{self.name} {self.size_text} {'-'.join(filter(None, (self.precision, self.form)))} {self.target}"


@dataclass(frozen=True)
class Sweep:
    """What all candidates share.

    Attributes:
        data: labelled frames (images/ and labels/) for accuracy.
        calibration: images for INT8; None where there are none.
        out: folder for artifacts, rows and overlays.
        threads: as in `benchmarks.latency`.
        engines: target → the engines to run its artifacts with; empty where none runs here.
        unable: engine that was asked for and cannot run here → why.
        together: where one latency is missing all are measured again, so that they stand in one run.
        quick: fewer queries; the rows are marked.
        max_frames: frames for accuracy at most; None for all.
        on: the board that measures time and accuracy; None for this machine.
        minutes: as in `benchmarks.latency.measure`.
    """

    data: Path
    calibration: Path | None
    out: Path
    threads: tuple[int | None, ...]
    engines: Mapping[str, tuple[str, ...]]
    quick: bool
    max_frames: int | None
    on: Board | None = None
    unable: Mapping[str, str] = field(default_factory=dict)
    together: bool = False
    minutes: int = 0

    def is_by(self, entry: Measurement) -> bool:
        """Whether a row was measured on the machine that is asked for."""
        return entry.machine.get("board") == (self.on and self.on.name)

    @property
    def rows(self) -> Path:
        """Where the rows go."""
        return self.out / ROWS

    def known(self) -> list[Measurement]:
        """Rows of earlier runs."""
        from benchmarks.measurement import read

        return read(self.rows) if self.rows.exists() else []


def forms(precision: str, asked: Iterable[str]) -> list[str]:
    """What an INT8 graph is measured in: the form that every engine reads, and that of each engine which computes
    another one best."""
    from runtime.forms import PORTABLE
    from runtime.sessions import engines

    return ["", *(name for name in asked if precision == "int8" and engines()[name].form != PORTABLE)]


def candidates(models: Sequence[str], sizes: Sequence[tuple[int, int]], targets: Mapping[str, Sequence[str]],
               precisions: Sequence[str], weights: Sequence[str]) -> list[SweepItem]:
    """All combinations.

    Args:
        models: networks.
        sizes: input (H, W).
        targets: names of `export.target.targets`, each with the engines that it is measured in.
        precisions: each wanted of every target; one that lacks it is skipped with the reason.
        weights: "NAME=SOURCE" for one network, or "SOURCE" for all others.
    """
    named = dict(entry.split("=", 1) for entry in weights if "=" in entry)
    others = next((entry for entry in weights if "=" not in entry), None)
    return [SweepItem(name, size, target, precision, named.get(name, others), form)
            for name, size, precision, target in product(models, sizes, precisions, targets)
            for form in forms(precision, targets[target])]


def sizes(text: str) -> list[tuple[int, int]]:
    """Parse "256x512,360x480"."""
    return [cli.size(part) for part in text.split(",")]


def engines_by_target(text: str) -> dict[str, tuple[str, ...]]:
    """Parse "onnx,openvino,…": targets, and further engines for their artifacts.

    A target is measured in its own engine where that runs here; an engine's name asks for that one, whether it runs
    here or not.
    """
    from export.target import targets
    from runtime.sessions import engines

    found: dict[str, list[str]] = {}
    for name in text.split(","):
        if name not in targets() and name not in engines():
            known = sorted({*targets(), *engines()})
            raise argparse.ArgumentTypeError(f"{name!r} is neither target nor engine; expected some of "
                                             f"{', '.join(known)}")
        own = name in targets()
        asked = name in engines() and not (own and engines()[name].hindrance())
        for target in (name,) if own else engines()[name].reads:
            found.setdefault(target, []).extend([name] * asked)
    return {target: tuple(names) for target, names in found.items()}


def precisions(text: str) -> list[str]:
    """Parse "fp32,fp16"."""
    from export.target import targets

    offered = list(dict.fromkeys(precision for target in targets().values() for precision in target.precisions))
    found = text.split(",")
    if unknown := [part for part in found if part not in offered]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no precision; expected some of {', '.join(offered)}")
    return found
