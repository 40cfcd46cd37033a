"""One contract for every network: it converts to Core ML, and the saved program computes what the network does."""

from __future__ import annotations

import pytest

from export.coreml.exporter import CoremlOptions, exported
from export.origins import find, names
from export.request import request
from export.target import Job
from runtime.artifact import OutputKind, open_artifact
from tests.contracts.test_models import fitting

LIGHT = ("lraspp-small",)
"""Converted in every test run; the others take a minute each."""

WARPED = ("alignseg", "alignseg-resnet101", "sfnet")
"""Networks with a flow warp, which becomes Core ML's `resample`."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in LIGHT else pytest.mark.slow)
                                  for name in names()])
def test_every_network_converts_and_agrees_with_torch(name, tmp_path):
    """Float32, because random deep networks leave float16's range, or have no margins for it to keep."""
    size = fitting(find(name).spec, (64, 96))
    lines: list[str] = []
    wanted = request(name, weights="none", size=size, output=OutputKind.CLASSES)
    artifact, _ = open_artifact(exported(Job(wanted, tmp_path, say=lines.append), CoremlOptions()))
    assert artifact.verification[0].agreement >= 0.9999
    assert artifact.details["cpu_only"] == (["resample"] if name in WARPED else [])
    assert any("runs on CPU only" in line for line in lines) == (name in WARPED)
