"""What people look at."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.overlay import ContactSheet, Painter
from tests.colours import CLASSES, PALETTE


def test_a_pixel_is_the_weighted_mean_of_frame_and_class_colour():
    frame = np.full((200, 300, 3), 100, np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    mask[:, 150:] = 2
    picture = Painter(CLASSES, PALETTE, alpha=0.25)(frame, mask)
    assert picture[80, 20].tolist() == [139, 75, 75]  # blue is (255, 0, 0) in BGR: 0.25·255 + 75 = 138.75
    assert picture[80, 200].tolist() == [75, 75, 139]


@pytest.mark.parametrize("alpha", [0, 1])
def test_the_ends_of_alpha_are_the_frame_alone_and_the_classes_alone(alpha):
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    picture = Painter(CLASSES, PALETTE, alpha)(frame, np.ones((200, 300), np.uint8))
    assert picture[50, 60].tolist() == ([0, 255, 0] if alpha else frame[50, 60].tolist())


def test_the_frame_and_the_mask_are_left_as_they_were():
    frame, mask = np.full((60, 80, 3), 100, np.uint8), np.zeros((60, 80), np.uint8)
    picture = Painter(CLASSES, PALETTE)(frame, mask, "10.0 FPS")
    assert (frame == 100).all()
    assert (mask == 0).all()
    assert not np.shares_memory(picture, frame)


def test_a_class_without_a_colour_is_black_and_255_does_not_fail():
    frame = np.full((200, 300, 3), 100, np.uint8)
    assert Painter(CLASSES, PALETTE, 1)(frame, np.full((200, 300), 255, np.uint8))[80, 20].tolist() == [0, 0, 0]


def test_the_legend_shows_every_class_colour_at_the_bottom():
    picture = Painter(CLASSES, PALETTE, 0)(np.full((200, 300, 3), 100, np.uint8), np.zeros((200, 300), np.uint8))
    colours = {tuple(pixel) for pixel in picture[150:].reshape(-1, 3).tolist()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= colours


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 97), (1080, 64)])
def test_any_frame_size_can_be_drawn_and_a_change_of_size_in_between(size):
    painter = Painter(CLASSES, PALETTE)
    for height, width in [size, (size[0] * 2, size[1]), size]:
        picture = painter(np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8), "1 FPS")
        assert picture.shape == (height, width, 3)


def test_a_line_of_numbers_changes_the_top_left_corner_only():
    painter = Painter(CLASSES, PALETTE)
    frame, mask = np.full((200, 300, 3), 100, np.uint8), np.zeros((200, 300), np.uint8)
    changed = (painter(frame, mask, "25.0 FPS") != painter(frame, mask)).any(2)
    assert changed[:16].any()
    assert not changed[16:].any()


@pytest.mark.parametrize("seen", [1, 5, 12, 13, 24, 25, 1000])
def test_a_sheet_keeps_at_most_two_dozen_pictures_spread_from_the_first_to_near_the_last(seen):
    sheet = ContactSheet(12)
    for value in range(seen):
        sheet.add(np.full((4, 6, 3), value % 256, np.uint8))
    assert len(sheet._pictures) < 24
    first, last = (int(sheet._pictures[i][0, 0, 0]) for i in (0, -1))
    assert first == 0
    assert (seen - 1 - last) % 256 <= seen // 12


def test_a_sheet_has_its_pictures_in_reading_order():
    sheet = ContactSheet(4)
    for value in (10, 20, 30, 40):
        sheet.add(np.full((4, 6, 3), value, np.uint8))
    drawn = sheet.draw(columns=2, width=6)
    assert drawn.shape == (8, 12, 3)
    assert drawn[::4, ::6, 0].tolist() == [[10, 20], [30, 40]]
