"""Training views: repeatable, and label and image stay together."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from export.training import samples
from export.training.samples import LABEL_STEP, Sample, augment, frequencies, load_samples
from runtime.errors import UserError


def blocks() -> Sample:
    """Four quarters, each of one class; red tells the class."""
    label = np.zeros((120, 160), np.uint8)
    label[:60, 80:], label[60:, :80], label[60:, 80:] = 1, 2, 3
    return Sample("blocks", np.stack([60 * label + 20, label, label], -1), label)


def test_the_same_seed_gives_the_same_view_and_another_seed_another() -> None:
    first, again, other = (augment(blocks(), (64, 96), 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first[0], other[0])


def test_the_label_shows_what_the_image_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_recoloured", lambda image, _: image)
    right = total = 0
    for seed in range(20):
        image, label = augment(blocks(), (64, 96), 0.5, np.random.default_rng(seed))
        assert image.shape == (64, 96, 3)
        assert label.shape == (64 // LABEL_STEP, 96 // LABEL_STEP)
        centre = cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA)[..., 0]  # the mean of the 2×2 pixels
        known = label != 255
        right += int(np.sum(np.round((centre[known] - 20.0) / 60) == label[known]))
        total += int(known.sum())
    assert total > 20 * 1000
    assert right / total > 0.98  # but for the edges of the blocks, where the image is a mixture


def test_what_lies_outside_the_frame_has_no_label() -> None:
    _, label = augment(blocks(), (512, 512), 0.5, np.random.default_rng(0))
    assert (label[0] == 255).all()
    assert set(np.unique(label)) == {0, 1, 2, 3, 255}


def test_frequencies_are_of_labelled_pixels() -> None:
    label = np.array([[0, 0, 0, 1], [255, 255, 255, 255]], np.uint8)
    assert frequencies([Sample("x", np.zeros((2, 4, 3), np.uint8), label)], 3).tolist() == [0.75, 0.25, 0]


@pytest.mark.parametrize(("label", "message"), [
    (np.full((4, 6), 11, np.uint8), r"a\.png has the label value 11; expected 0\.\.10 or 255"),
    (np.zeros((4, 6, 3), np.uint8), r"a\.png is uint8 \(4, 6, 3\); expected single-channel"),
    (np.zeros((4, 5), np.uint8), r"expected single-channel uint8 of the image's size \(4, 6\)"),
    (None, r"a\.png is missing"),
])
def test_an_unusable_label_is_told_by_name(tmp_path: Path, label: np.ndarray | None, message: str) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((4, 6, 3), np.uint8))
    if label is not None:
        cv2.imwrite(str(tmp_path / "labels" / "a.png"), label)
    with pytest.raises(UserError, match=message):
        load_samples(tmp_path, 11)


def test_a_folder_without_images_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected DIR/train and DIR/val"):
        load_samples(tmp_path, 11)


def test_balanced_views_show_rare_classes_more_often() -> None:
    label = np.zeros((300, 400), np.uint8)
    label[20:28, 30:38] = 1
    rare = Sample("rare", np.zeros((300, 400, 3), np.uint8), label)
    seen = {share: sum(int((augment(rare, (64, 96), share, np.random.default_rng(seed))[1] == 1).any())
                       for seed in range(80)) for share in (0.0, 1.0)}
    assert seen[1.0] >= 30  # of those two classes, half of the views are centred on either
    assert seen[1.0] > 2 * seen[0.0]
