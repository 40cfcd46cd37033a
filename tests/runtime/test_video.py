"""Pictures read and written."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime import video
from runtime.errors import UserError
from tests.colours import numbered


def frames_in(path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def test_images_of_a_folder_come_sorted_by_name_and_other_files_are_left_out(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in video.image_paths(tmp_path)] == ["a.jpg", "b.PNG"]


@pytest.mark.parametrize("make", ["empty", "absent", "file"])
def test_a_folder_without_images_is_refused(tmp_path, make):
    folder = tmp_path / "folder"
    if make != "absent":
        folder.mkdir() if make == "empty" else folder.touch()
    with pytest.raises(UserError, match="folder"):
        video.image_paths(folder)


@pytest.mark.parametrize(("stored", "expected"), [
    (np.full((3, 5), 90, np.uint8), (90, 90, 90)),  # grayscale
    (np.full((3, 5, 4), (10, 20, 30, 0), np.uint8), (10, 20, 30)),  # alpha is dropped, not blended
    (np.full((3, 5, 3), (256 * 10, 256 * 20, 256 * 30), np.uint16), (10, 20, 30)),  # 16 bits
])
def test_gray_alpha_and_deep_images_are_read_as_8_bit_bgr(tmp_path, stored, expected):
    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), stored)
    frame = video.read_image(path)
    assert (frame.shape, frame.dtype) == ((3, 5, 3), np.uint8)
    assert frame[1, 2].tolist() == list(expected)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(cv2.imencode(".png", numbered(1))[1].tobytes()[:40] if content is None else content)
    with pytest.raises(UserError, match=r"bad\.png"):
        video.read_image(path)


def test_a_png_comes_back_as_it_was_and_no_temporary_file_stays(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    video.write_png(tmp_path / "mask.png", mask)
    assert np.array_equal(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED), mask)
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]
