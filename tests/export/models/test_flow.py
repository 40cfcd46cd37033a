"""The flow warp: by hand, and through ONNX Runtime as it will be exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from export.models._flow import warp


class Warp(nn.Module):
    def __init__(self, norm: tuple[int, int], align_corners: bool) -> None:
        super().__init__()
        self.norm, self.align_corners = norm, align_corners

    def forward(self, x: Tensor, flow: Tensor) -> Tensor:
        return warp(x, flow, self.norm, self.align_corners)


def test_zero_flow_is_the_identity_with_aligned_corners() -> None:
    x = torch.randn(1, 3, 5, 7)
    assert torch.allclose(warp(x, torch.zeros(1, 2, 5, 7), (7, 5), True), x, atol=1e-5)


def test_an_offset_of_two_over_n_minus_1_times_the_norm_moves_by_one_cell() -> None:
    # Corners aligned: the map's n cells are 2 / (n - 1) apart, so norm * 2 / (n - 1) is one cell. n = 5, norm = 6: 3.
    x = torch.arange(5.0).reshape(1, 1, 1, 5).expand(1, 1, 3, 5)
    flow = torch.zeros(1, 2, 3, 5)
    flow[:, 0] = 3.0
    moved = warp(x, flow, (6, 6), True)
    assert moved[0, 0, 1].tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0, 0.0], abs=1e-5)


def test_first_flow_channel_is_horizontal() -> None:
    x = torch.arange(3.0).reshape(1, 1, 3, 1).expand(1, 1, 3, 5)  # varies downwards only
    flow = torch.zeros(1, 2, 3, 5)
    flow[:, 0] = 1.0
    assert torch.allclose(warp(x, flow, (5, 3), True)[..., :3], x[..., :3], atol=1e-5)


def test_unaligned_corners_shrink_a_still_map_towards_its_middle() -> None:
    # The reference's grid runs from -1 to 1, which without aligned corners is half a cell outside: half of it is zero.
    moved = warp(torch.ones(1, 1, 4, 4), torch.zeros(1, 2, 4, 4), (4, 4), False)
    assert float(moved[0, 0, 0, 0]) == pytest.approx(0.25, abs=1e-5)
    assert float(moved[0, 0, 1, 1]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("align_corners", "size", "target"), [
    (True, (4, 6), (8, 12)), (False, (3, 3), (7, 11)),
    pytest.param(False, (4, 6), (8, 12), marks=pytest.mark.slow),
    pytest.param(True, (3, 3), (7, 11), marks=pytest.mark.slow)])
def test_onnx_runtime_agrees_with_torch(align_corners: bool, size: tuple[int, int], target: tuple[int, int],
                                        tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, *size, generator=generator)
    flow = 2 * torch.randn(1, 2, *target, generator=generator)
    module = Warp((target[1], target[0]), align_corners).eval()
    path = tmp_path / "warp.onnx"
    torch.onnx.export(module, (x, flow), path, dynamo=True, opset_version=18, verbose=False, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {entry.name: value.numpy() for entry, value in zip(session.get_inputs(), (x, flow))})[0]
    assert np.abs(got - module(x, flow).numpy()).max() < 1e-4
