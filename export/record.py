"""The record beside weights, as far as it is read again; `export.training.record` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.decode import Count, FileName, Sha256, Share, Side, Text, decoded, parsed, read
from runtime.errors import UserError


@dataclass(frozen=True)
class Scores:
    """How weights did on labelled frames. IoU by class, None where no frame has it."""

    frames: Count
    miou: Share
    pixel_accuracy: Share
    iou: Mapping[str, Share | None]


@dataclass(frozen=True)
class WeightsRecord:
    """What is read again of a record.

    Attributes:
        network: whose weights they are.
        file: the weights, beside the record.
        sha256: of that file.
        classes: the label set's name, which `--weights` takes where the weights are bundled.
        terms: conditions of use that travel with the weights.
        size: the input (H, W) that they were trained for, where it is not the network's default.
        scores: by the set's name, "val" or "held out".
        recipe: as `export.training.recipe.Recipe` has it.
        commit: of the repository that trained.
        epochs_done: passes over the training frames.
        schedule_changes: where a training was resumed with other --epochs.
        start: the weights that training started from, with these fields of their own record.
    """

    network: Text
    file: FileName
    sha256: Sha256
    classes: Text
    terms: str
    size: tuple[Side, Side] | None = None
    scores: Mapping[str, Scores] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    commit: str | None = None
    epochs_done: Count | None = None
    schedule_changes: list[Mapping[str, Count]] | None = None
    start: Mapping[str, Any] | None = None


def read_record(path: Path) -> WeightsRecord:
    """A record from its file.

    Raises:
        UserError: it cannot be read, or is no record.
    """
    try:
        return decoded(WeightsRecord, parsed(read(path)), whole=False, part=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not the record of a training ({error}); expected what python -m "
                        "export.training.train writes beside its weights") from error
