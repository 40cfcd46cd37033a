"""One contract for every network: what its ModelSpec says is what its module does."""

from __future__ import annotations

from functools import cache
from math import ceil

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from export.origins import find, names
from export.spec import ModelSpec

LIGHT = ("dfanet-b", "lraspp-small", "sfnet")
"""Run in every test run; where tests compute, the others are marked slow."""

every = pytest.mark.parametrize("name", names())
weighted = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in LIGHT else pytest.mark.slow) for name in names()])


def fitting(entry: ModelSpec, size: tuple[int, int]) -> tuple[int, int]:
    """`size` to the nearest one that suits the network; one more where corners are aligned and any size will do."""
    unit = max(entry.multiple, entry.stride)
    extra = 1 if entry.align_corners and entry.multiple == 1 else 0
    return size[0] // unit * unit + extra, size[1] // unit * unit + extra


@cache
def on_meta(name: str) -> torch.nn.Module:
    """A network without memory for its weights, made once, as it takes seconds; no test here changes it."""
    with torch.device("meta"):
        return find(name).load()


@every
def test_declared_parameters_are_those_of_the_network(name: str) -> None:
    assert sum(p.numel() for p in on_meta(name).parameters()) == find(name).spec.parameters


def logits_shape(entry: ModelSpec, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
    """What the spec says of a frame of (H, W)."""
    return 1, classes, ceil(size[0] / entry.stride), ceil(size[1] / entry.stride)


@every
def test_a_frame_costs_the_declared_gmacs_and_has_the_declared_stride_and_classes(name: str) -> None:
    entry = find(name).spec
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        y = on_meta(name)(torch.empty(1, 3, *entry.counted_at, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gmacs, abs=0.0005)
    assert y.shape == logits_shape(entry, len(entry.classes.names), entry.counted_at)


@every
def test_default_size_suits_the_network_and_the_caller_chooses_the_class_count(name: str) -> None:
    entry = find(name).spec
    size = entry.preprocess.size
    assert [side % entry.multiple for side in size] == [0, 0]
    with torch.device("meta"), torch.no_grad():
        y = find(name).load(5)(torch.empty(1, 3, *size))
    assert y.shape == logits_shape(entry, 5, size)


@every
def test_spec_is_complete(name: str) -> None:
    entry = find(name).spec
    assert len(entry.classes.names) == len(entry.classes.palette)
    assert entry.paper
    assert entry.licence
    assert all(figure.source and figure.conditions for figure in entry.published)
    assert all(address.startswith("https://") and sha for address, sha in entry.weights.values())


@weighted
def test_random_weights_follow_the_seed_and_give_finite_varied_logits(name: str) -> None:
    torch.manual_seed(0)
    first = find(name).load()
    torch.manual_seed(0)
    second = find(name).load().state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.state_dict().items())
    height, width = fitting(find(name).spec, (64, 96))
    with torch.no_grad():
        y = first(torch.randn(1, 3, height, width))
    assert bool(y.isfinite().all())
    assert float(y.std()) > 0


@weighted
def test_training_mode_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = find(name).load().train()
    height, width = fitting(find(name).spec, (64, 96))
    y = network(torch.randn(2, 3, height, width))
    sum(part.square().mean() for part in (y.values() if isinstance(y, dict) else [y])).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
