"""Every network converts to ExecuTorch, and its runtime computes what it does; INT8 of the bundled ones holds."""

from __future__ import annotations

import pytest

from export.executorch import TARGET
from export.executorch.exporter import exported
from export.origins import names
from export.request import request
from export.target import Job
from runtime.artifact import open_artifact
from tests.contracts.test_exports import ON_CAMVID, randomly

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(TARGET.hindrance()), reason=TARGET.hindrance() or "built")]


@pytest.mark.parametrize("name", names())
def test_every_network_converts_and_agrees_with_torch(name, tmp_path):
    path = exported(Job(randomly(name, (64, 96)), tmp_path))
    assert open_artifact(path)[0].verification[0].agreement >= 0.9999


@pytest.mark.parametrize("name", ON_CAMVID)
def test_int8_of_the_bundled_networks_loses_at_most_a_point(name, tmp_path, data):
    path = exported(Job(request(name, precision="int8"), tmp_path, calibration=data / "camvid" / "train" / "images",
                        data=data / "camvid" / "val"))
    assert open_artifact(path)[0].details["accuracy"]["frames"] == 101
