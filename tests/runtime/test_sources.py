"""Every kind of source: its frames in order, and one clear line when there are none."""

from __future__ import annotations

import http.server
import os
import struct
import threading
from functools import partial

import cv2
import numpy as np
import pytest

from runtime import sources, stream
from runtime.channel import Policy
from runtime.errors import Incomplete, UserError
from tests.colours import clip, number_of, numbered


def numbers(source) -> list[int]:
    """What the frames carry, read from their brightest channels."""
    return [number_of(shot.image.argmax(2)) for shot in source.shots]


class Camera:
    """Stands for cv2.VideoCapture: plays what a list says; None is a failed read."""

    def __init__(self, script: list) -> None:
        self.script = script
        self.released = 0

    def isOpened(self) -> bool:  # noqa: N802
        return bool(self.script)

    def read(self):
        image = self.script.pop(0) if self.script else None
        return image is not None, image

    def get(self, _: int) -> float:
        return 30.0

    def set(self, *_: float) -> bool:
        return True

    def release(self) -> None:
        self.released += 1


def stdin(monkeypatch, content: bytes) -> None:
    """Put `content` into a pipe, which it must fit, and that in place of stdin."""
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    monkeypatch.setattr(sources.sys, "stdin", os.fdopen(read))


@pytest.fixture
def no_waiting(monkeypatch):
    """Pauses between connections take no time, but are counted on a clock of our own."""
    waits: list[float] = []
    monkeypatch.setattr(sources.threading.Event, "wait", lambda self, s=None: waits.append(s) or self.is_set())
    monkeypatch.setattr(sources, "monotonic", lambda: sum(waits))
    return waits


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_gives_every_frame_in_order_with_its_time(tmp_path, suffix):
    source = sources.open_source(str(clip(tmp_path / f"clip{suffix}", 9, fps=10)))
    assert (source.count, source.fps, source.live) == (9, 10, False)
    shots = list(source.shots)
    assert [number_of(shot.image.argmax(2)) for shot in shots] == list(range(9))
    assert [round(shot.seconds, 3) for shot in shots] == [i / 10 for i in range(9)]


def test_a_folder_gives_its_images_by_name_whatever_their_size(tmp_path):
    for number, size in enumerate([(16, 48), (33, 97), (20, 60)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), numbered(number, size))
    source = sources.open_source(str(tmp_path))
    assert (source.count, source.live) == (3, False)
    assert numbers(source) == [0, 1, 2]


def test_a_single_image_is_a_source_of_one(tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), numbered(5))
    assert numbers(sources.open_source(str(tmp_path / "one.png"))) == [5]


def test_a_broken_image_inside_a_folder_ends_the_source_but_not_what_came_before(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), numbered(number))
    (tmp_path / "1.png").write_bytes(b"")
    source = sources.open_source(str(tmp_path))
    assert next(source.shots).image.shape == (16, 48, 3)
    with pytest.raises(Incomplete, match=r"1\.png"):
        next(source.shots)


def test_raw_frames_on_stdin_are_cut_at_the_size_that_was_named(monkeypatch):
    stdin(monkeypatch, b"".join(numbered(n).tobytes() for n in (3, 1, 2)))
    assert numbers(sources.open_source("-", (16, 48))) == [3, 1, 2]


def test_frames_from_a_pipe_keep_their_own_pace_under_latest(artifact, monkeypatch):
    stdin(monkeypatch, b"".join(numbered(n).tobytes() for n in range(20)))
    monkeypatch.setattr(stream, "paced", lambda _: pytest.fail("paced"))
    results = list(stream.Stream(artifact, sources.open_source("-", (16, 48)), policy=Policy.LATEST, draw=False))
    assert number_of(results[-1].mask) == 19


def test_raw_frames_that_end_in_the_middle_of_one_are_incomplete(monkeypatch):
    stdin(monkeypatch, numbered(3).tobytes() + b"12345")
    source = sources.open_source("-", (16, 48))
    next(source.shots)
    with pytest.raises(Incomplete, match="5 bytes into frame 1"):
        next(source.shots)


@pytest.mark.parametrize(("text", "message"), [
    ("-", "--size"),
    ("/no/such/video.mp4", "does not exist"),
    ("97", "camera 97 gives no frames"),
    ("/dev/null", "gives no frames"),
    ("rtsp://127.0.0.1:9/nothing", "reachable stream"),
    ("http://127.0.0.1:9/nothing.mp4", "reachable stream"),
])
def test_what_cannot_be_opened_is_refused_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        sources.open_source(text)
    assert "\n" not in str(caught.value)


def test_a_gstreamer_pipeline_without_gstreamer_says_so(monkeypatch):
    monkeypatch.setattr(sources.cv2.videoio_registry, "hasBackend", lambda _: False)
    with pytest.raises(UserError, match="built without GStreamer"):
        sources.open_source("videotestsrc ! videoconvert ! appsink")


@pytest.mark.parametrize("content", [b"", b"\0" * 5000])
def test_an_empty_or_unreadable_video_is_refused(tmp_path, content):
    (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.mp4 gives no frames"):
        sources.open_source(str(tmp_path / "bad.mp4"))


def test_a_video_cut_off_in_the_middle_gives_its_frames_and_then_says_so(tmp_path):
    whole = clip(tmp_path / "whole.avi", 60)  # an AVI states its count at the front
    broken = tmp_path / "broken.avi"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = sources.open_source(str(broken))
    read = []
    with pytest.raises(Incomplete, match="breaks off after"):
        read.extend(number_of(shot.image.argmax(2)) for shot in source.shots)
    assert read == list(range(len(read)))
    assert 15 <= len(read) < 50


@pytest.mark.parametrize(("image", "expected"), [
    (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
    (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
    (np.full((2, 3, 4), (1, 2, 3, 9), np.uint8), (1, 2, 3)),
    (np.full((2, 3, 3), (1 << 8, 2 << 8, 3 << 8), np.uint16), (1, 2, 3)),
])
def test_whatever_a_decoder_returns_becomes_8_bit_bgr(image, expected):
    frame = sources.as_bgr(image)
    assert (frame.dtype, frame.shape) == (np.uint8, (2, 3, 3))
    assert frame[0, 0].tolist() == list(expected)


def test_an_unplugged_camera_is_connected_again_with_growing_pauses_and_reported(monkeypatch, no_waiting, caplog):
    lives = [Camera([numbered(0), numbered(1)]), Camera([]), Camera([]), Camera([numbered(2)])]
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *_: lives.pop(0) if lives else Camera([]))
    source = sources.open_source("0")
    assert source.live
    assert [number_of(next(source.shots).image.argmax(2)) for _ in range(3)] == [0, 1, 2]
    assert no_waiting == [0.5, 1, 2]
    assert "connecting again" in caplog.text
    assert "is back after 3.5 s" in caplog.text


def test_a_camera_that_never_comes_back_is_given_up(monkeypatch, no_waiting):
    lives = [Camera([numbered(0)])]
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *_: lives.pop(0) if lives else Camera([]))
    source = sources.open_source("0")
    with pytest.raises(Incomplete, match="did not come back within 60 s"):
        list(source.shots)


def test_closing_ends_the_wait_for_a_camera(monkeypatch):
    lives = [Camera([numbered(0)])]
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *_: lives.pop(0) if lives else Camera([]))
    source = sources.open_source("0")
    next(source.shots)
    source.closed.set()
    assert list(source.shots) == []


def test_a_phone_video_is_turned_upright_as_its_metadata_says(tmp_path):
    """The track header's matrix says: turn by 90 degrees (ISO 14496-12, 8.3.2); the writer of a phone does the same."""
    path = clip(tmp_path / "phone.mp4", 3, (32, 96))
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix:matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)
    path.write_bytes(data)
    upright = next(sources.open_source(str(path)).shots).image
    assert upright.shape == (96, 32, 3)
    assert number_of(cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE).argmax(2)) == 0


def test_deep_gray_video_arrives_as_8_bit_bgr(tmp_path):
    path = tmp_path / "deep.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), 25, (96, 32),
                             [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U, cv2.VIDEOWRITER_PROP_IS_COLOR, 0])
    if not writer.isOpened():
        pytest.skip("this OpenCV does not write 16-bit FFV1")
    for _ in range(3):
        writer.write(np.full((32, 96), 40 << 8, np.uint16))
    writer.release()
    shots = list(sources.open_source(str(path)).shots)
    assert len(shots) == 3
    assert (shots[1].image.shape, shots[1].image.dtype) == ((32, 96, 3), np.uint8)
    assert abs(int(shots[1].image[5, 5, 0]) - 40) <= 1


class Recording(Camera):
    """A file of 100 frames by its own account: 10 seconds at 10 frames per second."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__([numbered(i) for i in range(len(seconds))])
        self.seconds = [0.0, *seconds]

    def get(self, which: int) -> float:
        return {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: 100.0,
                cv2.CAP_PROP_POS_MSEC: 1e3 * self.seconds[len(self.seconds) - 1 - len(self.script)]}[which]


def test_a_variable_frame_rate_is_no_break_and_frames_keep_their_own_times(caplog):
    seconds = [0.0, 0.1, 0.2, 3.0, 3.1, 9.9]  # a screen on which nothing happened for a while
    shots = list(sources._file("screen.mp4", Recording(seconds)).shots)
    assert [shot.seconds for shot in shots] == pytest.approx(seconds)
    assert "6 of 100 frames" in caplog.text


def test_frames_and_time_that_both_stop_short_are_a_break():
    with pytest.raises(Incomplete, match="breaks off after 6 of its 100 frames"):
        list(sources._file("cut.mp4", Recording([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])).shots)


def test_a_camera_is_asked_for_a_size_and_may_give_another(monkeypatch):
    camera = Camera([numbered(3, (32, 96))])
    asked = []
    monkeypatch.setattr(camera, "set", lambda *what: asked.append(what))
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *_: camera)
    source = sources.open_source("0", (480, 640))
    assert asked == [(cv2.CAP_PROP_FRAME_HEIGHT, 480), (cv2.CAP_PROP_FRAME_WIDTH, 640)]
    assert next(source.shots).image.shape == (32, 96, 3)


def test_a_video_on_a_server_is_a_file_that_ends_and_not_a_camera(tmp_path):
    clip(tmp_path / "clip.mp4", 4)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        source = sources.open_source(f"http://127.0.0.1:{server.server_address[1]}/clip.mp4")
        assert (source.live, source.count) == (False, 4)
        assert numbers(source) == [0, 1, 2, 3]
        server.shutdown()
