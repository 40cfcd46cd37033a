"""Checkpoints of public implementations: names renamedd, and the same weights give the same logits.

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
from export.models import deeplabv2
from export.models._names import NameMap, rename, renamed
from export.origins import find

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


def sample(logits: Tensor, size: list[int], align_corners: bool) -> Tensor:
    """Every third class at every 16th (of more than 100 rows: every 32nd) row and column, upsampled to `size`."""
    full = functional.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)
    step = 16 if size[0] < 100 else 32
    return full[0, ::3, ::step, ::step].flatten()


@pytest.mark.parametrize("name", [
    *("bisenet", "bisenetv2", "ddrnet-slim", "enet", "espnetv2-s05", "icnet", "pidnet-s", "segnet", "sfnet", "stdc1"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("alignseg", "pspnet", "stdc2")),
])
def test_the_references_weights_give_the_references_logits(name: str) -> None:
    reference, origin = read(name), find(name)
    ours, names, size = origin.load(), origin.reference(), reference["size"]
    assert names is not None
    ours.load_state_dict(renamed({f"module.{k}": v for k, v in weights_of(reference["state"]).items()}, names, ours))
    ours.training = "auxiliary" in reference  # itself only: its heads run, its batch norms stay as they are
    with torch.no_grad():
        outputs = ours(image(size))
    if not ours.training:
        outputs = {"out": outputs}
    wanted = {"out": reference["logits"], **reference.get("auxiliary", {})}
    assert outputs.keys() == wanted.keys()
    for key, values in wanted.items():
        expected = torch.tensor(values)
        found = sample(outputs[key], size, origin.spec.align_corners)
        assert float(expected.std()) > 0.2
        torch.testing.assert_close(found[::1 if key == "out" else 5], expected, rtol=1e-4, atol=1e-3)


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


@pytest.mark.parametrize(("name", "left"), [
    ("pidnet-s", "model.seghead_p.conv2.weight"), ("ddrnet-slim", "model.final_layer.conv2.weight"),
    ("stdc1", "conv_out.conv_out.weight"),
])
def test_what_only_the_references_training_saved_is_left_out(name: str, left: str, tmp_path: Path) -> None:
    state = weights_of(read(name)["state"])
    loss = {"pidnet-s": "sem_loss.criterion.weight", "ddrnet-slim": "loss.criterion.weight"}.get(name, "")
    torch.save(state | ({loss: torch.ones(19)} if loss else {}), tmp_path / "best.pth")
    origin = find(name)
    network = origin.load()
    weights.put(network, weights.read(origin, str(tmp_path / "best.pth")))
    ours = {"pidnet-s": "aux.conv2.weight", "ddrnet-slim": "head.conv2.weight"}.get(name, "head.conv_out.weight")
    assert torch.equal(network.state_dict()[ours], state[left])


def test_inplace_abn_scales_become_their_absolute_value_and_epsilon() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2))
    state = {"0.weight": torch.tensor([-2.0, 3.0]), "0.bias": torch.zeros(2), "0.running_mean": torch.zeros(2),
             "0.running_var": torch.ones(2)}
    new = renamed(state, NameMap("a/b", inplace_abn=r"^0"), network)
    assert new["0.weight"].tolist() == pytest.approx([2.00001, 3.00001])
    assert renamed(state, NameMap("a/b"), network)["0.weight"].tolist() == [-2.0, 3.0]


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
