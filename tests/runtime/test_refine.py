"""The dense CRF: its filter against the sum that it approximates, and what it does to a mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from calibration.judge.accuracy import boundary_counts
from runtime.__main__ import main
from runtime.artifact import OutputKind
from runtime.refine import DenseCRF, Lattice, features, upsampled
from tests import tiny
from tests.conftest import ROOT


def test_the_lattice_filters_like_the_gaussian_sum_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 6, (3, 1200)).astype(np.float32)
    values = rng.random((2, 1200)).astype(np.float32)
    kernel = np.exp(-((points[:, :, None] - points[:, None]) ** 2).sum(0) / 2)
    exact = values @ kernel / kernel.sum(0)
    lattice = Lattice(points)
    filtered = lattice(values) / lattice(np.ones((1, 1200), np.float32))
    assert np.abs(filtered - exact).max() < 0.02  # the lattice is an approximation; means of the values are near 0.5
    assert np.corrcoef(filtered[0], exact[0])[0, 1] > 0.97


def test_barycentric_weights_of_the_lattice_are_shares_of_one() -> None:
    points = np.random.default_rng(1).normal(0, 40, (5, 500)).astype(np.float32)
    share = Lattice(points).share
    assert share.min() > -1e-4
    assert np.allclose(share.sum(0), 1, atol=1e-4)


def test_far_points_do_not_mix() -> None:
    points = np.array([[0.0, 0.1, 50.0, 50.1]], np.float32)
    out = Lattice(points)(np.array([[1.0, 1.0, 0.0, 0.0]], np.float32))[0]
    assert out[:2].min() > 0.5
    assert np.abs(out[2:]).max() < 1e-6


def test_features_are_position_and_colour_in_units_of_their_widths() -> None:
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[1, 2] = (30, 60, 90)
    assert features(frame, 2.0, 30.0)[:, 5].tolist() == [0.5, 1.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("align_corners", [True, False])
def test_logits_are_upsampled_as_torch_does_it(align_corners: bool) -> None:
    logits = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(logits)[None], size=(16, 23), mode="bilinear",
                                      align_corners=align_corners)[0].numpy()
    assert np.abs(upsampled(logits, (16, 23), align_corners) - expected).max() < 1e-5


def two_tone() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame with one edge at column 32, logits whose edge is at 28 and soft, and the true mask."""
    rng = np.random.default_rng(0)
    truth = np.zeros((48, 64), np.uint8)
    truth[:, 32:] = 1
    frame = (np.where(truth[..., None], 200, 60) + rng.normal(0, 2, (48, 64, 3))).clip(0, 255).astype(np.uint8)
    lean = np.tile((np.arange(64) - 28) / 8, (48, 1)).astype(np.float32)
    return frame, np.stack([-lean, lean]), truth


def test_an_outline_moves_to_the_edge_in_the_picture() -> None:
    frame, logits, truth = two_tone()
    before, after = logits.argmax(0), DenseCRF()(frame, logits).argmax(0)
    assert np.mean(before != truth) == 3 / 64
    assert np.mean(after != truth) < 0.005


def test_without_an_edge_the_outline_stays() -> None:
    _, logits, _ = two_tone()
    grey = np.full((48, 64, 3), 120, np.uint8)
    assert np.mean(DenseCRF(steps=1)(grey, logits).argmax(0) != logits.argmax(0)) < 0.05


def test_what_comes_out_are_log_probabilities_and_hopeless_classes_have_none() -> None:
    frame, logits, _ = two_tone()
    logits = np.concatenate([logits, np.full((1, 48, 64), -30, np.float32)])
    out = DenseCRF()(frame, logits)
    assert np.allclose(np.exp(out).sum(0), 1, atol=1e-5)
    assert np.exp(out[2]).max() < 1e-6


def test_the_command_refines_masks_and_times_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = tiny.artifact(tmp_path)
    clip = tiny.clip(tmp_path / "clip.mp4", frames=2)
    for name, more in (("plain", []), ("refined", ["--refine", "crf"])):
        assert main([str(artifact), "--source", str(clip), "--masks", str(tmp_path / name), *more]) == 0
    assert "refine" in capsys.readouterr().out
    plain, refined = (cv2.imread(str(tmp_path / name / "000000.png"), -1) for name in ("plain", "refined"))
    assert plain.shape == refined.shape == (64, 96)
    assert np.any(plain != refined)


def test_classes_cannot_be_refined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = tiny.artifact(tmp_path, OutputKind.CLASSES)
    assert main([str(artifact), "--source", str(tiny.picture(tmp_path / "x.png")), "--refine", "crf"]) == 2
    assert "starts from logits" in capsys.readouterr().err


@pytest.mark.slow
def test_outlines_of_camvid_get_sharper(data: Path) -> None:
    if not (ROOT / "export" / "checkpoints" / "lraspp.json").is_file():
        pytest.skip("lraspp has no bundled weights here")
    from export.request import request
    from export.wrapper import Normalised

    wanted = request("lraspp")
    network = Normalised(wanted.network, wanted.spec.preprocess, OutputKind.LOW, False)
    counts = np.zeros((2, 11, 2), np.int64)
    for path in sorted((data / "camvid" / "val" / "images").glob("*.jpg"))[::17]:
        frame = cv2.imread(str(path))
        label = cv2.imread(str(data / "camvid" / "val" / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        with torch.no_grad():
            low = network(torch.from_numpy(frame)[None])[0].permute(2, 0, 1).numpy()
        logits = upsampled(low, frame.shape[:2], False)
        for index, field in enumerate((logits, DenseCRF()(frame, logits))):
            counts[index] += boundary_counts(label, field.argmax(0).astype(np.uint8), 11)
    before, after = (counts[..., 0] / np.maximum(counts[..., 1], 1)).mean(-1)
    assert after > before
