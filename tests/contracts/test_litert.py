"""Every network converts to LiteRT, and the interpreter computes what it does; INT8 of the bundled ones holds."""

from __future__ import annotations

import pytest

from export.litert import TARGET
from export.litert.exporter import exported
from export.origins import names
from export.request import request
from export.target import Job
from runtime.artifact import open_artifact
from tests.contracts.test_exports import ON_CAMVID, randomly

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(TARGET.hindrance()), reason=TARGET.hindrance() or "built")]


@pytest.mark.parametrize("name", names())
def test_every_network_converts_and_agrees_with_torch(name, tmp_path):
    lines: list[str] = []
    path = exported(Job(randomly(name, (64, 96)), tmp_path, say=lines.append))
    artifact, _ = open_artifact(path)
    assert artifact.verification[0].agreement >= 0.9999
    assert any(line.startswith("GPU leaves") for line in lines)  # the frame's cast at the least


@pytest.mark.parametrize("name", ON_CAMVID)
def test_int8_of_the_bundled_networks_loses_at_most_a_point(name, tmp_path, data):
    path = exported(Job(request(name, precision="int8"), tmp_path, calibration=data / "camvid" / "train" / "images",
                        data=data / "camvid" / "val"))  # holds the loss against a point, or raises
    assert open_artifact(path)[0].details["accuracy"]["frames"] == 101
