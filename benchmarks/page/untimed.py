"""Artifacts that no engine of the machine ran: their size, and their accuracy where a reference could evaluate it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.measurement import Measurement


@dataclass(frozen=True)
class Untimed:
    """One artifact without a time.

    Attributes:
        built: its row of the kind "built".
        accuracy: its accuracy row, by the target's reference; None where nothing could judge it.
    """

    built: Measurement
    accuracy: Measurement | None

    @property
    def label(self) -> str:
        """For people; unique within a report."""
        return self.built.label

    @property
    def judged(self) -> str:
        """How far it was judged, in words."""
        if self.accuracy is None:
            return str(self.built.details["judged"])
        return f"evaluated by the reference on {self.accuracy.samples} frames, not executed"

    def unchecked(self, max_ms: float | None, max_drop: float | None) -> str:
        """Which budgets could not be checked, as one sentence; "" where none was set."""
        limits = [] if max_ms is None else [f"p90 at most {max_ms:g} ms"]
        if self.accuracy is None and max_drop is not None:
            limits.append(f"at most {max_drop:g} points of mIoU below the best")
        return f"{self.label} is {self.judged}: {' and '.join(limits)} could not be checked." if limits else ""


def untimed(rows: Iterable[Measurement]) -> list[Untimed]:
    """The newest of each artifact, in the order of their labels."""
    ordered = sorted(rows, key=lambda entry: entry.at)
    accuracy = {entry.sha256: entry for entry in ordered if entry.kind == "accuracy"}
    built = {entry.sha256: entry for entry in ordered if entry.kind == "built"}
    found = [Untimed(entry, accuracy.get(sha256)) for sha256, entry in built.items()]
    return sorted(found, key=lambda entry: entry.label)


def markdown(entries: Sequence[Untimed]) -> str:
    """A Markdown table; "" for no entries."""
    if not entries:
        return ""
    lines = ["| not timed here | mIoU | file MB | judged |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(cells(entry))} |" for entry in entries)]) + "\n"


def cells(entry: Untimed) -> tuple[str, str, str, str]:
    """Label, mIoU, size and how it was judged, as text; an unknown figure is a dash."""
    miou = f"{100 * entry.accuracy.values['miou']:.2f}" if entry.accuracy else "–"
    return entry.label, miou, f"{entry.built.values['model_mb']:.1f}", entry.judged
