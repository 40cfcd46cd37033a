"""One conversion to LiteRT for all the tests of a process: it takes a tiny network ten seconds."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from export.litert import TARGET
from export.target import Job
from tests import tiny


@functools.cache
def converted() -> bytes:
    """The tiny network's float32 .tflite file; skips the test where the converter is not installed."""
    if hindrance := TARGET.hindrance():
        pytest.skip(hindrance)
    from export.litert.convert import tflite_from_torch

    return tflite_from_torch(tiny.request())


def artifact(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Path:
    """The exported .tflite with its JSON, from `converted`.

    Args:
        folder: for the artifact.
        monkeypatch: the test's.
        options: fields of `Job`, and "precision".
    """
    model = converted()
    from export.litert import exporter

    monkeypatch.setattr(exporter, "tflite_from_torch", lambda wanted: model)
    wanted = tiny.request(precision=options.pop("precision", "fp32"))
    return exporter.exported(Job(wanted, folder, **options))  # type: ignore[arg-type]
