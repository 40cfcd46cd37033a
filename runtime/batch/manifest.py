"""`manifest.jsonl`: a row for every item that is finished or has failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Literal

from runtime import decode
from runtime.batch.store import Store
from runtime.batch.worker import Seconds
from runtime.decode import Count, Share
from runtime.errors import UserError

NAME = "manifest.jsonl"

_BETWEEN_S = 10.0
"""The file is written anew at most so often while work goes on, as a bucket cannot be appended to."""


@dataclass(frozen=True)
class ManifestRow:
    """What became of an item.

    Attributes:
        item: its name, which is also its folder.
        source: where it was read.
        status: "done", or "failed" where at least one of its segments did.
        reason: why it failed; "" where it did not.
        frames: whose masks are there.
        segments: that they were cut into.
        seconds: that workers took, all together.
        shares: of all pixels, by class.
        artifact: SHA-256 of the engine.
        key: another one when anything that the masks depend on has changed.
    """

    item: str
    source: str
    status: Literal["done", "failed"]
    reason: str
    frames: Count
    segments: Count
    seconds: Seconds
    shares: Mapping[str, Share]
    artifact: str
    key: str


class Manifest:
    """The rows of an output, in memory and in its store.

    Raises:
        UserError: what stands there is no manifest of ours.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.rows = {row.item: row for row in _read(store)}
        self._written_at = monotonic()

    def add(self, row: ManifestRow) -> None:
        """Take a row in place of the item's last one; it is in the store some seconds later at most."""
        self.rows[row.item] = row
        if monotonic() - self._written_at > _BETWEEN_S:
            self.write()

    def write(self) -> None:
        """Write all rows, sorted by item."""
        lines = [json.dumps(asdict(row), ensure_ascii=False) for _, row in sorted(self.rows.items())]
        self._store.write(NAME, "".join(f"{line}\n" for line in lines).encode())
        self._written_at = monotonic()


def _read(store: Store) -> Iterable[ManifestRow]:
    try:
        lines = store.read(NAME).decode("utf-8").splitlines()
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, 1):
        try:
            yield decode.decoded(ManifestRow, decode.parsed(line))
        except ValueError as error:
            raise UserError(f"line {number} of {NAME} is no row of a manifest ({error})",
                            try_="--out with another folder") from error
