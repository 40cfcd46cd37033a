"""Pictures read and written, and an mp4 that plays however its writing ended."""

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


def test_a_finished_video_has_every_frame_and_only_then_its_name(tmp_path):
    path = tmp_path / "out.mp4"
    with video.VideoFile(path, 25) as file:
        for number in range(7):
            file.write(numbered(number, (32, 96)))
            assert not path.exists()
    assert frames_in(path) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_an_error_in_the_body_still_leaves_a_video_that_plays(tmp_path):
    def write_and_fail() -> None:
        with video.VideoFile(tmp_path / "out.mp4", 25) as file:
            file.write(numbered(1, (32, 96)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert frames_in(tmp_path / "out.mp4") == 1


def test_pictures_of_another_size_are_brought_to_the_first_ones(tmp_path):
    with video.VideoFile(tmp_path / "out.mp4", 25) as file:
        file.write(numbered(1, (32, 96)))
        file.write(numbered(2, (50, 70)))
    assert frames_in(tmp_path / "out.mp4") == 2


@pytest.mark.parametrize("size", [(33, 97), (480, 641)])
def test_odd_sizes_are_written(tmp_path, size):
    with video.VideoFile(tmp_path / "out.mp4", 25) as file:
        file.write(numbered(1, size))
    assert frames_in(tmp_path / "out.mp4") == 1


def test_a_picture_that_no_video_can_hold_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(UserError, match="1x1"), video.VideoFile(tmp_path / "out.mp4", 25) as file:
        file.write(numbered(1, (1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_leaves_no_file(tmp_path):
    with video.VideoFile(tmp_path / "out.mp4", 25):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.avi", "absent/out.mp4"])
def test_an_impossible_name_is_refused_before_any_frame(tmp_path, name):
    with pytest.raises(UserError, match="cannot write"):
        video.VideoFile(tmp_path / name, 25)


def test_a_disk_that_is_nearly_full_is_noticed_and_what_was_written_plays(tmp_path, monkeypatch):
    free = iter([1 << 30, 1 << 20])
    monkeypatch.setattr(video.shutil, "disk_usage", lambda _: type("Usage", (), {"free": next(free)}))

    def write_forty() -> None:
        with video.VideoFile(tmp_path / "out.mp4", 25) as file:
            for number in range(40):
                file.write(numbered(number, (32, 96)))

    with pytest.raises(UserError, match="full"):
        write_forty()
    assert frames_in(tmp_path / "out.mp4") == 30
