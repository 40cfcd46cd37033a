"""Every network converts to ncnn and agrees with torch, or is refused by the layer that ncnn lacks; mIoU is kept."""

from __future__ import annotations

import pytest

from export.ncnn import TARGET
from export.ncnn.exporter import exported
from export.origins import names
from export.request import request
from export.target import Job
from runtime.artifact import open_artifact
from runtime.errors import UserError
from tests.contracts.test_exports import ON_CAMVID, randomly

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(TARGET.hindrance()), reason=TARGET.hindrance() or "built")]


REFUSED = ("enet", "segnet")
"""Networks that unpool by index: ncnn has no comparison and no slice with a step."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_with_layers_that_ncnn_does_not_have_is_refused_with_their_names(name, tmp_path):
    with pytest.raises(UserError, match=f"ncnn has no Tensor.slice, Tensor.to, torch.ge, which {name} uses"):
        exported(Job(randomly(name, (64, 96)), tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in names() if name not in REFUSED])
def test_every_other_network_converts_and_agrees_with_torch(name, tmp_path):
    path = exported(Job(randomly(name, (64, 96)), tmp_path))
    assert open_artifact(path)[0].verification[0].agreement >= 0.9999


@pytest.mark.parametrize("name", ON_CAMVID)
def test_float16_of_the_bundled_networks_costs_no_accuracy(name, tmp_path, data):
    path = exported(Job(request(name, precision="fp16"), tmp_path, data=data / "camvid" / "val", max_drop=0.1))
    assert open_artifact(path)[0].details["accuracy"]["frames"] == 101


@pytest.mark.parametrize("name", ON_CAMVID)
def test_int8_of_the_bundled_networks_loses_at_most_a_point(name, tmp_path, data):
    path = exported(Job(request(name, precision="int8"), tmp_path, calibration=data / "camvid" / "train" / "images",
                        data=data / "camvid" / "val"))
    assert open_artifact(path)[0].details["accuracy"]["frames"] == 101
