"""The same rows for other places: Markdown for a README, CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from benchmarks.page.candidates import Candidate

Column = tuple[str, Callable[[Candidate], str]]


def value(key: str, digits: int, kind: str = "latency", scale: float = 1.0) -> Callable[[Candidate], str]:
    """A figure as text; "" where it was not measured."""
    def cell(candidate: Candidate) -> str:
        entry = candidate.latency if kind == "latency" else candidate.others.get(kind)
        return f"{scale * entry.values[key]:.{digits}f}" if entry and key in entry.values else ""
    return cell


def marks(candidate: Candidate) -> str:
    """What must be known before a row is believed."""
    return ", ".join(["quick"] * candidate.quick + ["INVALID"] * bool(candidate.invalid))


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows of cells as lines; the `left` first columns are aligned to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(text.ljust(width) if place < left else text.rjust(width)
                      for place, (text, width) in enumerate(zip(row, widths))).rstrip() for row in rows]


COLUMNS: tuple[Column, ...] = (
    ("artifact", lambda c: c.label),
    ("mIoU", value("miou", 2, "accuracy", 100)),
    ("mIoU 95 %", lambda c: (f"{100 * a.values['miou_low']:.1f} to {100 * a.values['miou_high']:.1f}"
                             if (a := c.others.get("accuracy")) else "")),
    ("points lost", value("drop_points", 2, "accuracy")), ("pixels kept %", value("agreement", 2, "accuracy", 100)),
    ("p50 ms", value("p50_ms", 2)),
    ("p50 95 %", lambda c: f"{c.latency.values['p50_low_ms']:.2f} to {c.latency.values['p50_high_ms']:.2f}"),
    ("p90 ms", value("p90_ms", 2)), ("p99 ms", value("p99_ms", 2)), ("mean ms", value("mean_ms", 2)),
    ("min ms", value("min_ms", 2)), ("engine p50 ms", value("inference_p50_ms", 2)),
    ("CPU ms", value("processor_ms", 2)),
    ("GMAC", value("gmacs", 3, "complexity")), ("cold start ms", value("cold_start_ms", 0)),
    ("load ms", value("load_ms", 0)), ("peak MB", value("peak_mb", 0)), ("file MB", value("model_mb", 1)),
    ("mJ", value("energy_mj", 0)), ("queries", lambda c: str(c.latency.samples)), ("marks", marks),
)
"""What the tables show, in order."""


def filled(candidates: Sequence[Candidate]) -> list[Column]:
    """The columns in which at least one candidate has something to say."""
    return [(title, cell) for title, cell in COLUMNS if any(cell(c) for c in candidates)]


def markdown(candidates: Sequence[Candidate]) -> str:
    """A Markdown table."""
    columns = filled(candidates)
    lines = ["| " + " | ".join(title for title, _ in columns) + " |",
             "| --- |" + " ---: |" * (len(columns) - 1)]
    lines += ["| " + " | ".join(cell(c) for _, cell in columns) + " |" for c in candidates]
    return "\n".join(lines) + "\n"


def comma_separated(candidates: Sequence[Candidate]) -> str:
    """CSV with all columns, the hash, every reason for invalidity, and the command."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([title for title, _ in COLUMNS] + ["sha256", "invalid", "at", "command"])
    for c in candidates:
        writer.writerow([cell(c) for _, cell in COLUMNS]
                        + [c.latency.sha256, "; ".join(c.invalid), c.latency.at, c.latency.command])
    return stream.getvalue()
