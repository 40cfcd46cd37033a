import numpy as np
import pytest

from calibration.data.coverage import choose, covering, fingerprint
from calibration.data.frames import drawn_frame
from runtime.errors import UserError
from runtime.preprocess import Preprocess

PREPROCESS = Preprocess((32, 48))


def write(folder, frames):
    import cv2

    for name, frame in frames.items():
        assert cv2.imwrite(str(folder / name), frame)


def test_the_first_point_is_the_most_central_and_each_next_one_the_farthest_from_all_before():
    points = np.array([[0.0], [1.0], [2.0], [3.0], [10.0]], np.float32)  # mean 3.2, so index 3 is central
    assert covering(points, 3) == [3, 4, 0]


def test_the_one_night_picture_among_day_pictures_is_among_the_first_two_chosen(tmp_path):
    day = {f"{i:02}.png": drawn_frame((32, 48), i) for i in range(40)}
    write(tmp_path, day | {"20.png": day["20.png"] // 6})
    chosen = choose(tmp_path, 2, PREPROCESS, allow_few=True)
    assert "20.png" in [path.name for path in chosen.paths]


def test_fewer_than_32_frames_are_refused_unless_asked_for(tmp_path):
    write(tmp_path, {f"{i:02}.png": drawn_frame((8, 8), i) for i in range(40)})
    with pytest.raises(UserError, match="--frames 31 was received"):
        choose(tmp_path, 31, PREPROCESS)
    assert len(choose(tmp_path, 32, PREPROCESS).paths) == 32
    assert len(choose(tmp_path, 31, PREPROCESS, allow_few=True).paths) == 31


def test_a_folder_with_too_few_images_says_how_many_it_holds(tmp_path):
    write(tmp_path, {"a.png": drawn_frame((8, 8), 0)})
    with pytest.raises(UserError, match=r"holds 1 images.*--allow-few"):
        choose(tmp_path, 64, PREPROCESS)


def test_the_fingerprint_depends_on_contents_and_size_and_not_on_order(tmp_path):
    write(tmp_path, {"a.png": drawn_frame((8, 8), 0), "b.png": drawn_frame((8, 8), 1)})
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    before = fingerprint([a, b], PREPROCESS)
    assert fingerprint([b, a], PREPROCESS) == before
    assert fingerprint([a, b], Preprocess((16, 48))) != before
    write(tmp_path, {"b.png": drawn_frame((8, 8), 2)})
    assert fingerprint([a, b], PREPROCESS) != before
