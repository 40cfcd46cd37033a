"""LR-ASPP is torchvision's network: same counts, same names, same shapes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from export.origins import find

NAMES = ("lraspp", "lraspp-small")
SHARED = Path(os.environ.get("EDGESEG_DATA", Path(__file__).parents[4] / "shared" / "data")).parent


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions: output elements × inputs of one output, (Cin / groups) × kH × kW."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += y.numel() * module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 3, *size))
    return total


def test_with_21_classes_lraspp_has_the_parameters_and_operations_that_torchvision_publishes() -> None:
    network = find("lraspp").load(21)
    assert parameters(network) == 3_221_538
    assert round(macs(network, (520, 520)) / 1e9, 3) == 2.086


@pytest.mark.parametrize("name", NAMES)
def test_the_declared_counts_are_the_network_s_own(name: str) -> None:
    entry, network = find(name).spec, find(name).load()
    assert parameters(network) == entry.parameters
    assert round(macs(network, entry.counted_at) / 1e9, 3) == entry.gmacs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (72, 104)])  # odd at stride 16 in the second
def test_logits_come_at_the_declared_stride(name: str, height: int, width: int) -> None:
    with torch.inference_mode():
        y = find(name).load(5)(torch.zeros(2, 3, height, width))
    stride = find(name).spec.stride
    assert y.shape == (2, 5, height // stride, width // stride)


@pytest.mark.parametrize(("name", "low", "high"), [
    ("lraspp", (40, 8), (960, 16)), ("lraspp-small", (24, 8), (576, 16)),
])
def test_the_head_takes_features_of_stride_8_and_16(name: str, low: tuple[int, int], high: tuple[int, int]) -> None:
    network = find(name).load()
    seen: list[tuple[int, int]] = []
    head = network.get_submodule("classifier")
    head.register_forward_pre_hook(lambda _, args: seen.extend((x.shape[1], 64 // x.shape[2]) for x in args))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64))
    assert seen == [low, high]


@pytest.mark.parametrize(("name", "block"), [("lraspp", 4), ("lraspp-small", 2)])
def test_low_features_come_from_the_block_that_reaches_stride_8_as_in_torchvision(name: str, block: int) -> None:
    """Later blocks have the same shape, so that counts and checkpoints could not tell; only masks would be worse."""
    network = find(name).load()
    seen: list[Tensor] = []
    network.get_submodule("classifier").register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network.get_submodule(f"backbone.{block}").register_forward_hook(lambda _, args, y: seen.append(y))
    with torch.inference_mode():
        network(torch.randn(1, 3, 64, 64))
    assert len(seen) == 2
    assert seen[0] is seen[1]


def test_parameter_names_are_torchvision_s() -> None:
    keys = find("lraspp").load().state_dict().keys()
    for key in ("backbone.0.0.weight", "backbone.1.block.0.1.running_var", "backbone.4.block.2.fc1.bias",
                "backbone.16.1.num_batches_tracked", "classifier.cbr.0.weight", "classifier.scale.1.weight",
                "classifier.low_classifier.bias", "classifier.high_classifier.weight"):
        assert key in keys


def test_a_checkpoint_in_torchvision_s_layout_loads_strictly() -> None:
    checkpoint = SHARED / "checkpoints" / "lraspp-camvid.pth"
    if not checkpoint.is_file():
        pytest.skip(f"{checkpoint} is not here")
    find("lraspp").load(11).load_state_dict(torch.load(checkpoint, weights_only=True), strict=True)
