"""What this machine can export to and run, and what on it is known not to work together.

Targets and engines say it of themselves (`Target`, `Engine`); here they are asked in turn.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from export.target import HOST, Problem, Target
from runtime.sessions import Engine, installed, missing

ALWAYS = ("numpy", "opencv-python", "opencv-python-headless", "onnxruntime-gpu")
"""What takes part everywhere, or gets in the way."""

PYTHONS = ((3, 10), (3, 13))
"""The oldest Python that edgeseg is made for, and the first that is too new."""

RIVALS = (("opencv-python", "opencv-python-headless"), ("onnxruntime", "onnxruntime-gpu"))
"""Distributions that write the same files."""


@dataclass(frozen=True)
class Installation:
    """What was seen.

    Attributes:
        system: e.g. "Linux x86_64".
        python: (major, minor).
        packages: name → version of everything installed that takes part anywhere.
    """

    system: str
    python: tuple[int, int]
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Ability:
    """One thing to do here: its command, and why it cannot be done, or "" when it can; `remark` for when it can."""

    command: str
    hindrance: str
    remark: str = ""


def this_machine(targets: Iterable[Target], engines: Iterable[Engine]) -> Installation:
    """Look, without importing anything heavy."""
    names = [*HOST, *(name for target in targets for name in target.packages),
             *(name for engine in engines for name in engine.packages + engine.one_of), *ALWAYS]
    return Installation(f"{platform.system()} {platform.machine()}", sys.version_info[:2],
                   installed(tuple(dict.fromkeys(names))))


def abilities(targets: Mapping[str, Target], engines: Mapping[str, Engine]) -> list[Ability]:
    """What can be done, command by command: every target's export, calibration, and every engine with its files."""
    endings = {name: target.ending for name, target in targets.items()}
    exports = [Ability(f"python -m export.{name}", target.hindrance(), target.remark())
               for name, target in targets.items()]
    runs = [Ability(f"python -m runtime X{endings[read]}" + ("" if name == read else f" --engine {name}"),
                    engine.hindrance(), engine.title)
            for name, engine in engines.items() for read in engine.reads if read in endings]
    return [*exports, Ability("python -m calibration", missing(("onnx", "onnxruntime"), "calibration")), *runs]


def problems(machine: Installation, targets: Iterable[Target]) -> list[Problem]:
    """What is known not to work together, with the fix: of this machine at large, and of each target."""
    found: list[Problem] = []
    if not PYTHONS[0] <= machine.python < PYTHONS[1]:
        oldest, newest = f"{PYTHONS[0][0]}.{PYTHONS[0][1]}", f"{PYTHONS[1][0]}.{PYTHONS[1][1] - 1}"
        here = f"{machine.python[0]}.{machine.python[1]}"
        found.append(Problem(f"Python {here}: edgeseg is made for {oldest} to {newest}",
                             "make the environment with one of these"))
    found += [Problem(f"{one} and {other} write the same files; one of them is partly overwritten",
                      f"pip uninstall -y {one} {other} && pip install {one}")
              for one, other in RIVALS if {one, other} <= machine.packages.keys()]
    return [*found, *(problem for target in targets for problem in target.problems())]


def report(machine: Installation, able: list[Ability], found: list[Problem]) -> str:
    """All of it as text."""
    lines = [f"{machine.system}, Python {machine.python[0]}.{machine.python[1]}",
             "packages: " + ", ".join(f"{name} {number}" for name, number in machine.packages.items()), ""]
    width = max(len(ability.command) for ability in able)
    for ability in able:
        state = f"no   {ability.hindrance}" if ability.hindrance else f"yes  {ability.remark}"
        lines.append(f"{ability.command:{width}} {state}".rstrip())
    lines.append("")
    lines += [f"known not to work: {problem.what}. Try: {problem.fix}" for problem in found]
    return "\n".join([*lines, f"{sum(not a.hindrance for a in able)} of {len(able)} commands work here"
                      + (f", {len(found)} known problems" if found else "")])
