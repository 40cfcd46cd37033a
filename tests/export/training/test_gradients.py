"""The fast gradients are torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from export.origins import find
from export.training.gradients import Depthwise, Pointwise, use_cpu_gradients, use_depthwise


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 1)])
@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_output_and_gradients_are_those_of_conv2d(
        kernel: int, stride: int, dilation: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, kernel // 2 * dilation, dilation, 6, bias=False))
    fast = copy.deepcopy(plain)
    use_depthwise(fast)
    assert isinstance(fast[0], Depthwise)
    check_equal(plain, fast, torch.randn(2, 6, *size))


def check_equal(plain: nn.Sequential, fast: nn.Sequential, x: torch.Tensor) -> None:
    results = []
    for network in (plain, fast):
        leaf = x.clone().requires_grad_()
        y = network(leaf)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        results.append((y, leaf.grad, network[0].weight.grad))
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_a_strided_1x1_convolution_is_conv2d_as_well(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 4, 1, 2))
    fast = copy.deepcopy(plain)
    use_cpu_gradients(fast, compiled=False)
    assert isinstance(fast[0], Pointwise)
    check_equal(plain, fast, torch.randn(2, 6, *size))


def test_names_and_weights_stay_and_other_convolutions_are_left_alone() -> None:
    network = find("lraspp-small").load()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    use_depthwise(network)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    fast = [m for m in network.modules() if isinstance(m, Depthwise)]
    assert len(fast) == 11  # one per inverted residual block
    assert all(m.groups > 1 for m in fast)
