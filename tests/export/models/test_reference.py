"""Checkpoints of public implementations: names translated, and the same weights give the same logits.

`reference/*.json` was written by running the reference's own classes (its names and shapes are listed in it) with the
weights that `weights_of` makes from the names alone, on the input that `image` draws; a few of its logits are kept.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from export import weights
from export.models import alignseg, deeplabv2, sfnet
from export.models._names import NameMap, rename, translate
from export.origins import find
from runtime.errors import UserError

REFERENCE = Path(__file__).parent / "reference"


def read(name: str) -> dict[str, Any]:
    return json.loads((REFERENCE / f"{name}.json").read_text(encoding="utf-8"))


def weights_of(state: dict[str, list[int]]) -> dict[str, Tensor]:
    """Weights that depend on their names only; batch-norm scales of either sign, because InPlaceABN ignores it."""
    weights = {}
    for name, shape in state.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith("running_var"):
            values = rng.uniform(0.5, 2, shape)
        else:
            values = rng.uniform(-1.5, 1.5, shape) if name.endswith("weight") else rng.normal(0, 0.2, shape)
        weights[name] = torch.from_numpy(values.astype(np.float32))
    return weights


def image(size: list[int]) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, *size)).astype(np.float32))


@pytest.mark.parametrize(("name", "network", "names"), [
    ("sfnet", sfnet.sfnet, sfnet.REFERENCE),
    pytest.param("alignseg", alignseg.alignseg, alignseg.REFERENCE, marks=pytest.mark.slow),
])
def test_the_references_weights_give_the_references_logits(name: str, network: Any, names: NameMap) -> None:
    reference = read(name)
    ours = network(19).eval()
    ours.load_state_dict(translate({f"module.{k}": v for k, v in weights_of(reference["state"]).items()}, names, ours))
    with torch.no_grad():
        logits = functional.interpolate(ours(image(reference["size"])), size=reference["size"], mode="bilinear",
                                        align_corners=True)
    expected = torch.tensor(reference["logits"])
    assert float(expected.std()) > 1
    torch.testing.assert_close(logits[0, ::3, ::16, ::16].flatten(), expected, rtol=1e-4, atol=1e-3)


def test_a_checkpoint_in_the_references_names_is_taken_as_weights(tmp_path: Path) -> None:
    state = weights_of(read("sfnet")["state"])
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "best.pth")
    origin = find("sfnet")
    checkpoint = weights.read(origin, str(tmp_path / "best.pth"))
    assert weights.class_count(origin, checkpoint) == 19
    network = origin.load()
    record = weights.put(network, checkpoint)
    assert record["trained"] is True
    assert torch.equal(network.state_dict()["classifier.weight"], state["head.conv_last.1.weight"])
    assert torch.equal(network.state_dict()["backbone.conv1.6.weight"], state["layer0.0.6.weight"])


def test_every_missing_unknown_and_misshapen_name_is_listed() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    state = {"conv.weight": torch.zeros(4, 3, 1, 1), "norm.weight": torch.zeros(5), "head.bias": torch.zeros(1)}
    names = NameMap("a/b", ((r"^conv\.", "0."), (r"^norm\.", "1.")))
    with pytest.raises(UserError) as error:
        translate(state, names, network)
    text = str(error.value)
    assert "a/b" in text
    for part in ("missing 0.bias", "missing 1.bias", "unknown head.bias", "1.weight is (5,), expected (4,)"):
        assert part in text


def test_inplace_abn_scales_become_their_absolute_value_and_epsilon() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    state = {"0.weight": torch.tensor([-2.0, 3.0]), "0.bias": torch.zeros(2), "0.running_mean": torch.zeros(2),
             "0.running_var": torch.ones(2)}
    new = translate(state, NameMap("a/b", inplace_abn=True), network)
    assert new["0.weight"].tolist() == pytest.approx([2.00001, 3.00001])
    assert translate(state, NameMap("a/b"), network)["0.weight"].tolist() == [-2.0, 3.0]


@pytest.mark.parametrize(("theirs", "ours"), [
    ("layer1.conv1.bn.running_var", "backbone.bn1.running_var"),
    ("base.layer4.block23.increase.conv.weight", "backbone.layer3.22.conv3.weight"),
    ("layer2.block1.shortcut.bn.bias", "backbone.layer1.0.downsample.1.bias"),
    ("aspp.stages.c3.bias", "aspp.3.bias"),
    ("base.aspp.c0.weight", "aspp.0.weight"),
])
def test_deeplabv2_names_of_kazuto1011_are_known(theirs: str, ours: str) -> None:
    assert rename(theirs, deeplabv2.REFERENCE) == ours
    with torch.device("meta"):
        assert ours in deeplabv2.deeplabv2(21).state_dict()
