"""Masks that follow the motion, and masks that do not flicker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime import Stream, temporal
from runtime.artifact import OutputKind
from runtime.errors import UserError
from tests import colours

SIZE = (96, 240)


def scene(shift: int, seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A textured picture, its left half red and its right half blue, moved to the right by `shift` pixels."""
    texture = np.random.default_rng(seed).integers(0, 110, (size[0], size[1] + 80), np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 110, cv2.NORM_MINMAX)
    picture = np.dstack([texture] * 3)
    middle = (size[1] + 80) // 2
    picture[:, :middle, 2] = 255 - picture[:, :middle, 2] // 2
    picture[:, middle:, 0] = 255 - picture[:, middle:, 0] // 2
    return np.ascontiguousarray(picture[:, 40 - shift:40 - shift + size[1]])


def boundary(mask: np.ndarray) -> float:
    """Where red (2) ends, in pixels from the left, averaged over the rows."""
    return float((mask == 2).sum(1).mean())


def run(folder, frames, **options):
    return list(Stream(colours.artifact(folder, (24, 60)), frames, draw=False, **options))


def inferred(results) -> list[int]:
    return [r.index for r in results if "inference" in r.stages_ms]


def test_the_network_sees_every_nth_frame_only(tmp_path):
    results = run(tmp_path, [scene(0)] * 10, every=4)
    assert inferred(results) == [0, 4, 8]
    assert all(np.array_equal(r.mask, results[0].mask) for r in results)


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_in_between_follow_the_motion_and_without_warp_they_stay(tmp_path, workers):
    frames = [scene(3 * i) for i in range(5)]
    moved = run(tmp_path, frames, every=5, workers=workers)
    stayed = run(tmp_path, frames, every=5, warp=False, workers=workers)
    start = boundary(moved[0].mask)
    for i, (a, b) in enumerate(zip(moved, stayed)):
        assert boundary(a.mask) == pytest.approx(start + 3 * i, abs=1.5)
        assert boundary(b.mask) == start
    assert inferred(moved) == inferred(stayed) == [0]


def test_a_new_scene_is_a_key_frame_at_once(tmp_path):
    other = np.full((*SIZE, 3), (20, 250, 20), np.uint8)
    results = run(tmp_path, [scene(0)] * 3 + [other] * 3, every=100)
    assert inferred(results) == [0, 3]
    assert (results[4].mask == 1).all()


def test_masks_in_between_are_made_from_the_refined_one(tmp_path):
    results = run(tmp_path, [scene(0)] * 4, every=4, refine=lambda frame, output, mask: np.full_like(mask, 1))
    assert [int(r.mask.min()) for r in results] == [1] * 4
    assert ["refine" in r.stages_ms for r in results] == [True, False, False, False]


def test_a_new_frame_size_is_a_key_frame(tmp_path):
    results = run(tmp_path, [scene(0), scene(0), scene(0, size=(80, 240)), scene(0, size=(80, 240))], every=100)
    assert inferred(results) == [0, 2]
    assert results[3].mask.shape == (80, 240)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (16, 16), (700, 9)])
def test_any_frame_size_will_do(tmp_path, size):
    results = run(tmp_path, [np.zeros((*size, 3), np.uint8)] * 3, every=2, smooth=True)
    assert [r.mask.shape for r in results] == [size] * 3


@pytest.mark.parametrize("output", [OutputKind.LOW, OutputKind.LOGITS])
def test_smoothing_takes_the_middle_of_what_the_network_said_and_what_it_said_before(tmp_path, output):
    # One still picture whose brightest channel wavers: blue, then green by a little, then blue again.
    def frame(blue, green):
        return np.ascontiguousarray(np.full((24, 60, 3), (blue, green, 10), np.uint8))

    frames = [frame(120, 100), frame(105, 110), frame(120, 100)]
    engine = colours.artifact(tmp_path, (24, 60), output)
    plain = [r.mask[5, 5] for r in Stream(engine, frames, draw=False)]
    smooth = [r.mask[5, 5] for r in Stream(engine, frames, draw=False, smooth=True)]
    assert plain == [0, 1, 0]
    assert smooth == [0, 0, 0]  # (120 + 105) / 2 > (100 + 110) / 2


def test_smoothing_does_not_blend_one_scene_into_the_next(tmp_path):
    dark, bright = (np.full((24, 60, 3), c, np.uint8) for c in ((90, 10, 10), (180, 200, 190)))
    results = run(tmp_path, [dark, dark, bright], smooth=True)
    assert [r.mask[5, 5] for r in results] == [0, 0, 1]


def test_smoothing_of_classes_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs logits"):
        Stream(colours.artifact(tmp_path, output=OutputKind.CLASSES), [], smooth=True)


def test_a_uniform_flow_moves_masks_and_logits_by_its_own_scale():
    flow = np.full((10, 20, 2), (1, 0), np.float32)  # a pixel looks like the one to its right, one of 20 across
    mask = np.tile(np.arange(40, dtype=np.uint8), (20, 1))
    assert temporal.warp_mask(mask, flow)[3].tolist() == [min(x + 2, 39) for x in range(40)]
    logits = np.tile(np.arange(10, dtype=np.float32)[:, None], (5, 1, 6))
    assert temporal.warp_logits(logits, flow)[2, :, 5].tolist() == [min(x + 0.5, 9) for x in range(10)]


def test_surprise_is_what_the_flow_leaves_unexplained():
    key = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (10, 1))
    still, right = np.zeros((10, 20, 2), np.float32), np.full((10, 20, 2), (1, 0), np.float32)
    moved = np.minimum(key + np.uint8(10), 190)
    assert temporal.surprise(key, moved, right) == 0
    assert temporal.surprise(key, moved, still) == pytest.approx(10 * 19 / 20)
