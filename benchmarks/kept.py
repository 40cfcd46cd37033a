"""What a long run has measured so far, beside the rows that it will become, so that one that breaks off can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.decode import parsed


class KeptRounds:
    """One value per line, each on the disk before the next is measured. Nothing is left of it when the run is done.

    Args:
        folder: where the rows go; None to keep nothing.
        run: what makes a later run the same one: artifacts, rule, machines.

    Attributes:
        values: what runs before this one have left.
    """

    def __init__(self, folder: Path | None, run: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
        self._path = folder and folder / f".{name}.unfinished.jsonl"
        self.values: list[Any] = []
        if self._path and self._path.exists():
            whole, _, _ = self._path.read_bytes().rpartition(b"\n")  # a kill may have cut the last line short
            self.values = [parsed(line) for line in whole.decode().splitlines()]
            self._path.write_bytes(whole + b"\n" if whole else b"")

    def add(self, value: Any) -> None:
        """Keep one more."""
        if self._path:
            with self._path.open("ab") as stream:
                stream.write(json.dumps(value).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())

    def remove(self) -> None:
        """The run is done."""
        if self._path:
            self._path.unlink(missing_ok=True)
