"""One row: what was measured on which artifact, on which machine, from how many samples. Kept as JSON lines."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import reprlib
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.details import check_details
from runtime import decode
from runtime.artifact import Artifact
from runtime.decode import Count, Number, Side, Text
from runtime.errors import UserError
from runtime.sessions import engines

FORMAT = 2
"""Version of a row. A reader takes this one and 1, whose `target` was the engine; it refuses any other number."""

ROWS_LIMIT = 1 << 30
"""Bytes of the largest file of rows that is read: some hundred thousand of them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """One row.

    Attributes:
        kind: "latency", "accuracy", "layers", "complexity", "pipeline", "temporal", "built" where nothing can run the
            artifact here, or "skipped".
        name: the network's name.
        target: the format of what was measured, a folder of `export/`; "" where there is no file.
        precision: "fp32", "fp16", "int8".
        size: input (H, W) in pixels.
        output: what the engine returns: "low", "logits" or "classes".
        file: the engine's file name.
        sha256: of the engine; rows with the same one are about the same artifact.
        values: figures, with the unit in each name: "p50_ms", "peak_mb", "miou" (0..1).
        samples: how many queries, frames or layers the figures come from.
        machine: what `benchmarks.machine.describe` says.
        command: what to type to get this row again.
        at: when, ISO 8601, UTC.
        quick: taken with fewer samples than the rule asks for; an indication, not a result.
        invalid: why the figures cannot be trusted; empty when they can.
        details: what only this kind of row knows.
        engine: what ran it, a file of `runtime/sessions/`; "" where none took part.
    """

    kind: Text
    name: Text
    target: str
    precision: Text
    size: tuple[Side, Side]
    output: str
    file: str
    sha256: str
    values: Mapping[str, Number]
    samples: Count
    machine: Mapping[str, Any]
    command: str
    at: str
    quick: bool = False
    invalid: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""

    @property
    def variant(self) -> str:
        """The precision, and the form where there are several of it: "fp32", "int8-nncf"."""
        return "-".join(filter(None, (self.precision, self.details.get("form"))))

    @property
    def label(self) -> str:
        """Short and unique within one machine: "lraspp 360x480 fp32 onnx", by its engine, or its target where
        none took part; threads and output where not the default."""
        height, width = self.size
        parts = [self.name, f"{height}x{width}", self.variant, self.engine or self.target]
        if self.output not in ("", "low"):
            parts.append(self.output)
        if threads := self.details.get("threads"):
            parts.append(f"{threads} thread{'' if threads == 1 else 's'}")
        return " ".join(part for part in parts if part)


def row(kind: str, artifact: Artifact, values: Mapping[str, float], *, samples: int, machine: Mapping[str, Any],
        command: str | None = None, **rest: Any) -> Measurement:
    """A row about an artifact, made now.

    Args:
        kind: see `Measurement`.
        artifact: what was measured.
        values: see `Measurement`.
        samples: see `Measurement`.
        machine: see `Measurement`.
        command: see `Measurement`; None for the command that is running.
        rest: the fields of `Measurement` that have defaults.
    """
    if form := artifact.calibration.get("made_for") or artifact.calibration.get("quantiser"):
        rest["details"] = {**rest.get("details", {}), "form": form}
    return Measurement(kind, artifact.name, artifact.target, artifact.precision, artifact.preprocess.size,
                       artifact.output_kind.value, artifact.file, artifact.sha256, dict(values), samples, dict(machine),
                       command or this_command(), now(), **rest)


def now() -> str:
    """The time, ISO 8601, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def this_command() -> str:
    """What was typed to get here."""
    program = Path(sys.argv[0])
    module = f"{program.parent.name}.{program.stem}".removesuffix(".__main__")
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def append(path: Path, rows: Iterable[Measurement]) -> None:
    """Add rows to a file, each safely on the disk before the next; a line that a kill cut short is closed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        for entry in rows:
            stream.write(to_line(entry).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def to_line(entry: Measurement) -> str:
    """The row as one line of JSON."""
    return json.dumps({"format": FORMAT, **dataclasses.asdict(entry)}, ensure_ascii=False)


def read(path: Path) -> list[Measurement]:
    """All rows of a file. A line that is cut short, as a kill leaves it, is left out with a warning.

    Raises:
        UserError: no such file, or a line that is JSON but no row of ours.
    """
    try:
        lines = decode.read(path, ROWS_LIMIT).split("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected rows of measurements",
                        try_="python -m benchmarks sweep, which writes them") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            values = decode.parsed(line)
        except ValueError as error:
            log.warning("%s, line %s is cut short and left out (%s)", path, number, error)
            continue
        rows.append(_from_values(values, f"{path}, line {number}"))
    return rows


def _of_version_1(entry: Measurement) -> Measurement:
    """A row whose `target` held target or engine, with both."""
    if entry.target not in engines():
        return entry
    ran = entry.kind not in ("complexity", "skipped")
    return dataclasses.replace(entry, target=engines()[entry.target].reads[0], engine=entry.target if ran else "")


def _from_values(values: Any, origin: str) -> Measurement:
    version = values.pop("format", None) if isinstance(values, dict) else None
    if type(version) is not int or version not in (1, FORMAT):
        raise UserError(f"{origin} has format {reprlib.repr(version)}; this edgeseg reads formats 1 and {FORMAT}",
                        try_="measure again with this version")
    try:
        if version == 1 and "engine" in values:
            raise ValueError("the key 'engine' is unknown in format 1")
        entry = decode.decoded(Measurement, values if version == FORMAT else {**values, "engine": ""})
        check_details(entry)
    except ValueError as error:
        raise UserError(f"{origin} is not a row of measurements ({error})",
                        try_="python -m benchmarks latency ARTIFACT --rows FILE, which writes them") from error
    return entry if version == FORMAT else _of_version_1(entry)
