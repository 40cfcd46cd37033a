"""What heat leaves of the speed: frames per second, temperature and clock over minutes without a pause."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from runtime import cli

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement

WINDOW_S = 5.0
"""One point of the curve."""
LAST_S = 60.0
"""A run without a pause is judged by its last minute."""


@dataclass(frozen=True)
class Moment:
    """One window of such a run.

    Attributes:
        at_s: seconds since its start.
        fps: frames per second.
        temperature_c, clock_mhz: of the processor at its end; None where the machine does not report it.
    """

    at_s: float
    fps: float
    temperature_c: float | None = None
    clock_mhz: float | None = None


def run(minutes: int, window: Callable[[], tuple[float, dict[str, float]]], label: str) -> list[Moment]:
    """Call `window` without a pause.

    Args:
        minutes: for so long.
        window: works for `WINDOW_S` and returns frames per second, and what `benchmarks.conditions.health` says.
        label: for the progress bar.
    """
    found: list[Moment] = []
    start = monotonic()
    while not found or found[-1].at_s < 60 * minutes:
        fps, health = window()
        found.append(Moment(round(monotonic() - start, 2), fps, **health))
        cli.status(f"{label}: {found[-1].at_s / 60:.1f} of {minutes} minutes, {fps:.1f} FPS")
    cli.status("")
    return found


def values(moments: Sequence[Moment]) -> dict[str, float]:
    """A row's figures: the rate at first, and what is left of it."""
    left = [moment.fps for moment in moments if moment.at_s >= moments[-1].at_s - LAST_S]
    return {"first_fps": moments[0].fps, "sustained_fps": float(statistics.median(left))}


def details(moments: Sequence[Moment]) -> dict[str, Any]:
    """The curve as a row's details hold it: one list for each field of `Moment`."""
    return {"sustained": {name: [getattr(moment, name) for moment in moments]
                          for name in ("at_s", "fps", "temperature_c", "clock_mhz")}}


def words(entry: Measurement) -> str:
    """A row's summary of such a run, in one line; "" where there was none."""
    curve = entry.details.get("sustained")
    if not curve:
        return ""
    v, minutes = entry.values, curve["at_s"][-1] / 60
    parts = [f"{entry.label}: {v['first_fps']:.1f} FPS at first, {v['sustained_fps']:.1f} after {minutes:.0f} minutes"]
    for name, unit in (("temperature_c", "°C"), ("clock_mhz", "MHz")):
        first, last = curve[name][0], curve[name][-1]
        if first is not None and last is not None:
            parts.append(f"{first:.0f} to {last:.0f} {unit}")
    return ", ".join(parts)
