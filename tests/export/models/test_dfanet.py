"""DFANet against its paper: counts, shapes, and the flow of features between the three backbones."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from export.models.dfanet import DFANet, dfanet


def gmacs(network: torch.nn.Module, size: tuple[int, int]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(("variant", "paper", "tolerance"), [("a", 1.6, 0.04), ("b", 0.83, 0.04)])
def test_backbone_costs_what_the_paper_says_at_1024(variant: str, paper: float, tolerance: float) -> None:
    with torch.device("meta"):
        network = dfanet(1000, variant, backbone=True)
    assert gmacs(network, (1024, 1024)) == pytest.approx(paper, rel=tolerance)


@pytest.mark.parametrize(("variant", "paper", "size"), [("a", 3.4, (1024, 1024)), ("a", 1.7, (512, 1024)),
                                                        ("b", 2.1, (1024, 1024))])
def test_network_costs_within_an_eighth_of_the_paper(variant: str, paper: float, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = dfanet(19, variant)
    assert gmacs(network, size) == pytest.approx(paper, rel=0.125)


def test_maps_have_the_strides_of_figure_2() -> None:
    network = dfanet(11).eval()
    assert isinstance(network, DFANet)
    with torch.no_grad():
        x = network.stem(torch.zeros(1, 3, 128, 192))
        maps = network.backbones[0].stages(x)
    assert [tuple(y.shape[1:]) for y in maps] == [(48, 32, 48), (96, 16, 24), (192, 8, 12)]


@pytest.mark.parametrize("size", [(32, 48), (36, 52)])
def test_sizes_that_halve_unevenly_still_give_stride_4(size: tuple[int, int]) -> None:
    with torch.no_grad():
        y = dfanet(11, "b").eval()(torch.zeros(1, 3, *size))
    assert y.shape == (1, 11, size[0] // 4, size[1] // 4)


def test_attention_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    attention = dfanet(11, "b").backbones[0].attention
    x = torch.randn(2, 128, 4, 4)
    assert torch.allclose(attention(x), x, atol=0.05 * float(x.abs().max()))


def test_a_new_network_is_shallow_and_its_gradients_small() -> None:
    torch.manual_seed(0)
    network = dfanet(11, "b")
    logits = network(torch.randn(2, 3, 96, 128))
    torch.nn.functional.cross_entropy(logits, torch.randint(0, 11, (2, 24, 32))).backward()
    norm = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm()
    block = network.backbones[1].enc3[1]
    x = torch.randn(2, 64, 8, 8)

    assert torch.equal(block(x), x)
    assert norm < 10  # 0.5 to 0.8; 100 to 400 where the blocks' last batch norms start at 1
