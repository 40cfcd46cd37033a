"""Pooling said in operators that every engine has is the reference's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from export.models import icnet
from export.models._unpool import pool, unpool


@pytest.mark.parametrize("kind", ["values", "ties", "negative", "zeros"])
def test_pooling_and_unpooling_equal_torch_s_by_index(kind: str) -> None:
    x = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    x = {"values": x, "ties": x.mul(2).round(), "negative": -x.abs() - 1, "zeros": torch.relu(x) * 0}[kind]
    highest, places = pool(x)
    expected, indices = functional.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(highest, expected)
    assert torch.equal(places.sum(2), torch.ones_like(highest))
    y = torch.randn(highest.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(unpool(y, places), functional.max_unpool2d(y, indices, 2))


def test_icnet_pools_a_map_of_33x65_in_the_windows_that_its_authors_wrote_out() -> None:
    x = torch.zeros(1, 1, 33, 65)
    x[0, 0, 0, 14] = 8 * 15  # in the first window of 6x6 bins (8x15 cells) only, and in the first of each other size
    shares = [functional.avg_pool2d(x, *icnet.TRAINED[bins]) for bins in icnet.BINS]
    assert [tuple(share.shape[2:]) for share in shares] == [(bins, bins) for bins in icnet.BINS]
    corner = 1 + 120 / (13 * 25) + 120 / (17 * 33) + 120 / (33 * 65)
    assert float(icnet.pyramid(x)[0, 0, 0, 0]) == pytest.approx(corner, rel=1e-5)
