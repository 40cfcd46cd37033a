from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from export.wrapper import Deployable, Normalised, RowByRow, adaptive_pool
from runtime.artifact import OutputKind
from tests import tiny

FRAME = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("output", list(OutputKind))
def test_folding_changes_nothing_but_rounding(order, output):
    pre = dataclasses.replace(tiny.SPEC.preprocess, colour_order=order)
    module = Deployable(tiny.network(), pre, output, False)
    reference = Normalised(tiny.network(), pre, output, False)
    assert module.folded
    torch.testing.assert_close(module(FRAME), reference(FRAME), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("output", list(OutputKind))
def test_the_mean_of_a_row_at_a_time_is_the_same_mean(output):
    module = RowByRow(tiny.network(), tiny.SPEC.preprocess, output, False)
    assert torch.equal(module(FRAME), Deployable(tiny.network(), tiny.SPEC.preprocess, output, False)(FRAME))


def test_a_network_whose_input_goes_two_ways_is_normalised_in_the_graph_instead():
    class TwoWays(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 4, 1, 2)

        def forward(self, x):
            return self.a(x) + self.b(x)

    torch.manual_seed(0)
    net = TwoWays()
    module = Deployable(net, tiny.SPEC.preprocess, OutputKind.LOW, False)
    assert not module.folded
    assert "no single convolution" in module.remark
    torch.testing.assert_close(module(FRAME), Normalised(net, tiny.SPEC.preprocess, OutputKind.LOW, False)(FRAME))


class ReadsAgain(nn.Module):
    """As ESPNetv2: the input is pooled and read once more, by a function that no hook sees."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.a(x) + self.b(functional.avg_pool2d(x, 3, 2, 1))


class WritesIntoItsInput(nn.Module):
    """The network brings its input to −1..1 itself, in place."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, x):
        return self.a(x.mul_(2).sub_(1))


class ComputesItsWeights(nn.Module):
    """A first convolution whose weights are standardised in every run."""

    def __init__(self):
        super().__init__()
        self.a = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3, 2, 1))

    def forward(self, x):
        return self.a(x)


class OneConvolutionForAllDepths(nn.Module):
    """The first convolution reads features too, which are not to be scaled."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 3, 3, 2, 1)

    def forward(self, x):
        return self.a(self.a(x))


class Grouped(nn.Sequential):
    """A first convolution that keeps the colours apart."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 6, 3, 2, 1, groups=3), nn.PReLU(6), nn.Conv2d(6, 4, 1))


@pytest.mark.parametrize("kind", [ReadsAgain, WritesIntoItsInput, ComputesItsWeights,
                                  OneConvolutionForAllDepths, Grouped])
def test_a_fold_that_would_change_the_logits_is_left_out_and_said(kind):
    torch.manual_seed(0)
    net = kind()
    module = Deployable(net, tiny.SPEC.preprocess, OutputKind.LOW, False)
    assert not module.folded
    assert "stay in the graph" in module.remark
    torch.testing.assert_close(module(FRAME), Normalised(net, tiny.SPEC.preprocess, OutputKind.LOW, False)(FRAME))


def test_the_network_itself_is_left_alone():
    net = tiny.network()
    before = net.stem[0].weight.clone()
    Deployable(net, tiny.SPEC.preprocess, OutputKind.LOW, False)
    assert torch.equal(net.stem[0].weight, before)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (5, 7)])
def test_adaptive_pooling_equals_torch_at_sizes_that_do_not_divide(size):
    x = torch.rand(2, 3, 11, 13, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adaptive_pool(x, size), functional.adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize(("size", "pooled"), [((8, 12), (4, 6)), ((9, 6), (3, 6)), ((12, 18), (8, 12)),
                                              ((6, 12), (4, 8)), ((9, 12), (6, 4))])
def test_adaptive_pooling_whose_bins_repeat_equals_torch_without_a_matrix(size, pooled):
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adaptive_pool(x, pooled), functional.adaptive_avg_pool2d(x, pooled))
    with FlopCounterMode(display=False) as counter:
        adaptive_pool(x, pooled)
    assert (counter.get_total_flops() > 0) == (pooled == (6, 4))  # rows in a ratio of 3:2, columns of 3:1


def test_shapes_are_as_documented():
    shapes = {kind: tuple(Deployable(tiny.network(), tiny.SPEC.preprocess, kind, False)(FRAME).shape)
              for kind in OutputKind}
    assert shapes == {OutputKind.LOW: (1, 8, 12, 11), OutputKind.LOGITS: (1, 11, 32, 48),
                      OutputKind.CLASSES: (1, 32, 48)}
