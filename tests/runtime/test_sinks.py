"""Where results go."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

from runtime import sinks
from runtime.errors import UserError
from runtime.result import StreamResult
from tests.colours import described, number_of, numbered
from tests.runtime.test_recording import shown


def result(index: int, timestamp: float = 0.0) -> StreamResult:
    frame = numbered(index, (32, 96))
    return StreamResult(frame.argmax(2).astype(np.uint8), {}, frame, described(), None, index, timestamp, frame, 1.0, 0)


@pytest.mark.parametrize(("evenly", "expected"), [(False, [0.0, 0.2, 0.5, 0.6]), (True, [0.0, 0.04, 0.08, 0.12])])
def test_a_videos_frames_have_their_own_times_or_those_of_their_numbers(tmp_path, evenly, expected):
    sink = sinks.Video(tmp_path / "out.mp4", 10, evenly=evenly)
    for index, seconds in enumerate([5.0, 5.2, 5.5, 5.6]):
        sink.write(result(index, seconds))
    sink.close()
    assert [(round(seconds, 3), number) for seconds, number in shown(tmp_path / "out.mp4")] == [
        (seconds, number) for number, seconds in enumerate(expected)]


def test_class_maps_are_numbered_by_their_frame_not_by_their_turn(tmp_path):
    sink = sinks.Pngs(tmp_path / "new" / "folder")
    for index in (3, 7):
        sink.write(result(index))
    sink.close()
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [p.name for p in files] == ["000003.png", "000007.png"]
    assert [number_of(cv2.imread(str(p), cv2.IMREAD_UNCHANGED)) for p in files] == [3, 7]


def test_raw_masks_are_bytes_one_per_pixel():
    stream = io.BytesIO()
    sink = sinks.RawMasks(stream)
    for index in (5, 6):
        sink.write(result(index))
    sink.close()
    masks = np.frombuffer(stream.getvalue(), np.uint8).reshape(2, 32, 96)
    assert [number_of(mask) for mask in masks] == [5, 6]


def test_a_sheet_of_no_pictures_is_not_written(tmp_path):
    sinks.Sheet(tmp_path / "sheet.png").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "ends"), [(ord("q"), True), (27, True), (255, False), (ord("x"), False)])
def test_q_and_escape_in_the_window_are_enough(monkeypatch, key, ends):
    monkeypatch.setattr(sinks, "display", lambda: True)
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    window = sinks.Window()
    if ends:
        with pytest.raises(sinks.Enough):
            window.write(result(0))
    else:
        window.write(result(0))
    window.close()


def test_a_window_without_a_display_is_refused_before_qt_aborts(monkeypatch):
    monkeypatch.setattr(sinks, "display", lambda: False)
    with pytest.raises(UserError, match="needs a display"):
        sinks.Window()
