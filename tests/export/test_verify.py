from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from export.reference import with_neighbouring_weights
from export.verify import FP32, Gate, Verifier
from runtime.errors import GateFailed
from tests import tiny

FRAMES = [(f"frame {i}", np.full((1, 2, 2, 3), i, dtype=np.uint8)) for i in range(2)]


def classes(y):
    return y[0].argmax(-1).astype(np.uint8)


def logits(winner):
    """Two classes over 2×2 pixels; `winner` is the class map."""
    return np.eye(2, dtype=np.float32)[np.asarray(winner)][None]


def same(frame):
    return logits([[0, 1], [1, 0]])


def opposite(frame):
    return logits([[1, 0], [0, 1]])


def test_agreement_counts_pixels_over_all_frames_and_names_the_worst_frame():
    def one_pixel_off_on_the_second(frame):
        return logits([[0, 1], [1, 1]]) if frame.max() else same(frame)

    check = Verifier(FRAMES, same, opposite, classes).check("step", one_pixel_off_on_the_second, Gate(0.8))
    assert check.agreement == 7 / 8
    assert (check.worst_frame, check.worst_agreement) == ("frame 1", 3 / 4)
    assert check.max_abs == 1.0
    assert check.control == 0.0


def test_a_step_below_its_gate_fails_with_both_figures():
    with pytest.raises(GateFailed, match=r"75.0000% of pixels keep their class, 99.99% are required"):
        Verifier(FRAMES, same, opposite, classes).check("step", lambda f: logits([[0, 1], [1, 1]]), FP32)


def test_logits_that_drift_without_changing_a_class_fail_too():
    with pytest.raises(GateFailed, match=r"logits differ by up to 0.200% of the largest, 0.01% is allowed"):
        Verifier(FRAMES, same, opposite, classes).check("step", lambda f: same(f) + np.float32(0.002), FP32)


@pytest.mark.parametrize("scale", [1e-8, 1, 1e4])
@pytest.mark.parametrize(("drift", "holds"), [(5e-5, True), (2e-4, False)])
def test_the_scale_of_a_network_s_logits_does_not_matter(scale, drift, holds):
    def scaled(output):
        return lambda frame: output(frame) * np.float32(scale)

    verifier = Verifier(FRAMES, scaled(same), scaled(opposite), classes)
    with contextlib.nullcontext() if holds else pytest.raises(GateFailed, match="logits differ"):
        verifier.check("step", lambda f: (same(f) + np.float32(drift)) * np.float32(scale), FP32)


@pytest.mark.parametrize(("moved", "drift", "holds"), [(1e-4, 3e-4, True), (1e-4, 5e-4, False), (1e-5, 3e-4, False)])
def test_a_step_may_move_logits_that_float32_leaves_open_and_that_is_said(caplog, moved, drift, holds):
    verifier = Verifier(FRAMES, same, opposite, classes, neighbour=lambda: lambda f: same(f) + np.float32(moved))
    with contextlib.nullcontext() if holds else pytest.raises(GateFailed, match="logits differ"):
        assert verifier.check("step", lambda f: same(f) + np.float32(drift), FP32).max_rel == pytest.approx(drift, 1e-2)
    assert f"logits move by {moved:.3%} of the largest" in caplog.text


def test_nothing_is_asked_of_a_neighbour_where_a_step_holds():
    def neighbour():
        raise AssertionError

    Verifier(FRAMES, same, opposite, classes, neighbour=neighbour).check("step", same, FP32)


def test_every_weight_of_a_neighbour_is_the_next_float32_number():
    network = tiny.network()
    before = [weight.clone() for weight in network.parameters()]
    for own, kept, moved in zip(network.parameters(), before, with_neighbouring_weights(network).parameters()):
        assert torch.equal(own, kept)
        assert not (moved == kept).any()
        up, down = (torch.nextafter(kept, torch.full_like(kept, limit)) for limit in (torch.inf, -torch.inf))
        assert ((moved == up) | (moved == down)).all()


def test_a_control_that_passes_makes_the_check_worthless():
    with pytest.raises(GateFailed, match="the check proves nothing"):
        Verifier(FRAMES, same, same, classes).check("step", same, FP32)


def test_nan_never_passes():
    with pytest.raises(GateFailed, match=r"0.0000% of pixels"):
        Verifier(FRAMES, same, opposite, classes).check("step", lambda f: same(f) * np.float32(np.nan), Gate(0.5))


def test_a_changed_shape_is_not_compared():
    with pytest.raises(GateFailed, match="changed the output's shape"):
        Verifier(FRAMES, same, None, classes).check("step", lambda f: same(f)[:, :1], FP32)
