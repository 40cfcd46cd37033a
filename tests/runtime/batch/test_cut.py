"""Segments at key frames: together they hold every frame once, in order, whatever the encoder did."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.batch.cut import _cut, segments_of, source_of
from runtime.batch.items import Item, find_items
from runtime.errors import Incomplete, UserError
from tests import colours
from tests.runtime.batch.clips import h264


def item(path) -> Item:
    (found,) = find_items([str(path)])
    return found


def numbers(segment, artifact) -> list[int]:
    """The numbers that a segment's pictures carry."""
    mask = np.vectorize(int)
    frames = [shot.image for shot in source_of(segment).shots]
    return [colours.number_of((mask(frame[..., 2]) > 128).astype(np.uint8) * 2) for frame in frames]


@pytest.mark.parametrize(("name", "how"), [
    ("closed.mp4", {}), ("b.mp4", {"b_frames": 3}), ("open.mp4", {"b_frames": 3, "open_gop": True}),
    ("open.mkv", {"b_frames": 3, "open_gop": True}), ("open.ts", {"b_frames": 3, "open_gop": True}),
    ("all-key.mp4", {"gop": 1}), ("two.mp4", {"gop": 2, "b_frames": 1, "open_gop": True})])
@pytest.mark.parametrize("least", [1, 15, 1000])
def test_every_frame_of_a_video_is_in_one_segment_and_in_order(tmp_path, artifact, name, how, least):
    segments = segments_of(item(h264(tmp_path / name, 47, **how)), least)
    found = [number for segment in segments for number in numbers(segment, artifact)]
    assert found == list(range(47))
    assert [s.first for s in segments] == np.cumsum([0, *(s.frames for s in segments)])[:-1].tolist()
    if least == 15:
        assert [s.frames for s in segments][:-1] == [20, 20] if "gop" not in how else [16, 16]
    if least == 1000:
        assert len(segments) == 1


def test_a_video_without_times_is_one_segment(tmp_path, artifact):
    packets = [(None, None, True)] * 5
    (segment,) = _cut(item(colours.clip(tmp_path / "a.avi", 5)), packets, 1)
    assert numbers(segment, artifact) == [0, 1, 2, 3, 4]


def test_the_pixels_are_those_that_opencv_decodes(data):
    path = data / "video" / "dashcam.mp4"
    capture = cv2.VideoCapture(str(path))
    for _, shot in zip(range(5), source_of(segments_of(item(path), 10**6)[0]).shots):
        assert np.array_equal(shot.image, capture.read()[1])


def test_times_go_on_from_one_segment_to_the_next(tmp_path):
    segments = segments_of(item(h264(tmp_path / "a.mp4", 30, b_frames=2)), 10)
    times = [shot.seconds for segment in segments for shot in source_of(segment).shots]
    assert times == pytest.approx(np.arange(30) / 25)


def test_a_folder_of_images_is_cut_into_equal_parts(tmp_path):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), colours.numbered(number))
    segments = segments_of(item(tmp_path), 2)
    assert [(s.first, s.frames) for s in segments] == [(0, 2), (2, 2), (4, 1)]
    assert [np.array_equal(shot.image, colours.numbered(n)) for n, shot in zip(
        (2, 3), source_of(segments[1]).shots)] == [True, True]


def test_what_is_no_video_is_refused_with_its_name(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UserError, match=r"a\.mp4 cannot be read as a video"):
        segments_of(item(tmp_path / "a.mp4"), 10)


def test_a_video_that_was_cut_short_is_told_from_a_whole_one(tmp_path):
    path = colours.clip(tmp_path / "a.avi", 40)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(Incomplete, match="breaks off after"):
        segments_of(item(path), 10)


def test_frames_that_cannot_be_decoded_are_missed(tmp_path, artifact):
    path = h264(tmp_path / "a.mp4", 30)
    segments = segments_of(item(path), 10)
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat") + 4
    data[begin + 100:begin + (len(data) - begin) // 2] = bytes((len(data) - begin) // 2 - 100)
    path.write_bytes(data)
    with pytest.raises(Incomplete, match="decoded"):
        [numbers(segment, artifact) for segment in segments]
