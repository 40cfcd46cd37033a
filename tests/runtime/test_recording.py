"""Videos that play however their writing ended."""

from __future__ import annotations

import builtins
import errno
import random
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import recording
from runtime.errors import MissingLibrary, UserError
from runtime.recording import Recording, cut_to_whole_frames, finish_unfinished
from runtime.segments import Segments
from tests.colours import clip, number_of, numbered
from tests.conftest import ROOT

av = pytest.importorskip("av", reason="recordings need PyAV, the extra `record`")

SIZE = (32, 96)


def shown(path: Path) -> list[tuple[float, int]]:
    """Time and number of every frame, by another player than the one that writes."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        frames.append((capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, number_of(frame.argmax(2))))
    capture.release()
    return frames


def numbers(path: Path) -> list[int]:
    return [number for _, number in shown(path)]


def record(file: Recording | Segments, count: int, start: int = 0, fps: float = 25) -> None:
    for number in range(start, start + count):
        file.write(numbered(number, SIZE), number / fps)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_video_has_every_frame_at_its_time_and_only_then_its_name(tmp_path):
    path, times = tmp_path / "out.mp4", [3.0, 3.01, 3.5, 5.0, 5.001]
    with Recording(path, 25) as file:
        for number, seconds in enumerate(times):
            file.write(numbered(number, SIZE), seconds)
            assert not path.exists()
    assert [(round(seconds, 3), number) for seconds, number in shown(path)] == [
        (round(seconds - 3, 3), number) for number, seconds in enumerate(times)]
    assert names(tmp_path) == ["out.mp4"]
    with av.open(str(path)) as video:
        assert (video.streams.video[0].codec_context.name, video.streams.video[0].frames) == ("h264", 5)


def test_a_clock_that_stands_still_or_goes_back_loses_no_frame(tmp_path):
    with Recording(tmp_path / "out.mp4", 25) as file:
        for number, seconds in enumerate([1.0, 1.0, 0.2, 1.5]):
            file.write(numbered(number, SIZE), seconds)
    assert numbers(tmp_path / "out.mp4") == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [(243, 321), (33, 96), (32, 97), (1, 1)])
def test_odd_sizes_keep_their_pixels_and_it_is_said_what_that_costs(tmp_path, size, caplog):
    with Recording(tmp_path / "out.mp4", 25) as file:
        file.write(numbered(5, size), 0)
    frame = cv2.VideoCapture(str(tmp_path / "out.mp4")).read()[1]
    assert frame.shape == (*size, 3)
    assert np.abs(frame.astype(int) - numbered(5, size)).mean() < 12
    assert "4:4:4" in caplog.text


def test_even_sizes_are_in_the_form_that_every_browser_plays(tmp_path, caplog):
    with Recording(tmp_path / "out.mp4", 25) as file:
        file.write(numbered(1, SIZE), 0)
    with av.open(str(tmp_path / "out.mp4")) as video:
        context = video.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.has_b_frames) == ("yuv420p", 1, False)
        assert context.profile in ("High", "Main", "Constrained Baseline")
    assert caplog.text == ""


def test_an_error_in_the_body_still_leaves_a_video_that_plays(tmp_path):
    def write_and_fail() -> None:
        with Recording(tmp_path / "out.mp4", 25) as file:
            record(file, 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert numbers(tmp_path / "out.mp4") == [0, 1]


def test_pictures_of_another_size_are_brought_to_the_first_ones(tmp_path):
    with Recording(tmp_path / "out.mp4", 25) as file:
        file.write(numbered(1, SIZE), 0)
        file.write(numbered(2, (50, 70)), 1)
    assert len(numbers(tmp_path / "out.mp4")) == 2


def test_a_video_without_frames_leaves_no_file(tmp_path):
    with Recording(tmp_path / "out.mp4", 25):
        pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["out.avi", "absent/out.mp4"])
def test_an_impossible_name_is_refused_before_any_frame(tmp_path, name):
    with pytest.raises(UserError, match="cannot write"):
        Recording(tmp_path / name, 25)


def test_without_the_library_or_the_encoder_recording_is_refused_and_nothing_else_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "ENCODERS", ("no_such_encoder",))
    with pytest.raises(UserError, match=r"encodes no H\.264; expected one with no_such_encoder"):
        Recording(tmp_path / "out.mp4")
    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (_ for _ in ()).throw(ImportError(name))
                        if name == "av" else real(name, *rest))
    with pytest.raises(MissingLibrary, match=r"pip install 'edgeseg\[record\]'"):
        Recording(tmp_path / "out.mp4")


def test_a_disk_that_is_nearly_full_is_noticed_and_what_was_written_plays(tmp_path, monkeypatch):
    free = iter([1 << 30, 1 << 20])
    monkeypatch.setattr(recording.shutil, "disk_usage", lambda _: type("Usage", (), {"free": next(free)}))

    def write_forty() -> None:
        with Recording(tmp_path / "out.mp4", 25) as file:
            record(file, 40)

    with pytest.raises(UserError, match="full; the 25 frames so far are kept"):
        write_forty()
    assert numbers(tmp_path / "out.mp4") == list(range(25))


def test_an_end_that_cannot_be_written_still_leaves_what_was(tmp_path):
    file = Recording(tmp_path / "out.mp4", 25)
    record(file, 10)

    class Full:
        """A disk that is full when the index is to be written."""

        real = file._container

        def mux(self, *packets: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        close = mux

    file._container = Full()
    with pytest.raises(UserError, match=r"end of .* could not be written .*kept"):
        file.finish()
    assert numbers(tmp_path / "out.mp4") == list(range(9))
    assert names(tmp_path) == ["out.mp4"]


def test_a_cut_at_any_byte_leaves_every_frame_that_was_written_before_it(tmp_path):
    """A power cut, at byte granularity: the file as it was after so many bytes, finished on the next start."""
    file = Recording(tmp_path / "out.mp4", 25)
    sizes = []
    for number in range(12):
        file.write(numbered(number, SIZE), number / 25)
        sizes.append(file.bytes)
    data = file._temporary.read_bytes()
    file.finish()
    data += (tmp_path / "out.mp4").read_bytes()[len(data):]  # with the last frame and the index of the finished one
    cut = tmp_path / ".cut.1.tmp.mp4"
    for length in random.Random(0).sample(range(len(data) + 1), 30):
        cut.write_bytes(data[:length])
        made = finish_unfinished(tmp_path / "cut.mp4")
        assert not cut.exists()
        got = numbers(made[0]) if made else []
        assert got == list(range(len(got)))
        assert len(got) >= sum(size <= length for size in sizes) - 1  # the last one is on its way
        for path in made:
            path.unlink()


def test_what_a_file_system_leaves_where_nothing_was_written_is_cut_off(tmp_path):
    path = tmp_path / "x.mp4"
    moof, mdat = (16).to_bytes(4, "big") + b"moof" + bytes(8), (12).to_bytes(4, "big") + b"mdat" + b"data"
    for tail in (bytes(100), moof, moof + mdat[:-1], b"\0\0"):
        path.write_bytes(moof + mdat + tail)
        cut_to_whole_frames(path)
        assert path.read_bytes() == moof + mdat


def test_an_unfinished_recording_is_finished_once_named_as_such_and_others_are_left_alone(tmp_path, caplog):
    for stem in ("out", "out", "out-000007"):
        file = Recording(tmp_path / f"{stem}.mp4", 25)
        record(file, 5)
        shutil.copy(file._temporary, tmp_path / f".{stem}.1.tmp.mp4")
        file.finish()
        (tmp_path / f"{stem}.mp4").unlink()
        finish_unfinished(tmp_path / "out.mp4")
    (tmp_path / ".out.2.tmp.mp4").write_bytes(b"nothing that plays")
    (tmp_path / ".other.1.tmp.mp4").write_bytes(b"not ours")
    with Recording(tmp_path / "out.mp4", 25) as alive:
        record(alive, 3)
        assert finish_unfinished(tmp_path / "out.mp4") == []
    assert names(tmp_path) == [".other.1.tmp.mp4", "out-000007-cut-short.mp4", "out-cut-short-2.mp4",
                               "out-cut-short.mp4", "out.mp4"]
    assert numbers(tmp_path / "out-cut-short.mp4") == [0, 1, 2, 3]
    assert numbers(tmp_path / "out.mp4") == [0, 1, 2]
    assert "had been cut off" in caplog.text


def test_segments_go_on_where_the_last_run_stopped_and_no_frame_is_lost_between_two(tmp_path):
    for run in range(2):
        segments = Segments(tmp_path / "out.mp4", 25, minutes=1 / 60)
        record(segments, 60, 60 * run)
        segments.finish()
    assert names(tmp_path) == [f"out-{number:06d}.mp4" for number in range(1, 7)]
    files = [numbers(tmp_path / name) for name in names(tmp_path)]
    assert [len(file) for file in files] == [25, 25, 10, 25, 25, 10]
    assert [number for file in files for number in file] == list(range(120))


def test_the_oldest_segments_are_deleted_before_all_together_exceed_what_is_kept(tmp_path):
    keep, rng = 400_000, np.random.default_rng(0)
    (tmp_path / "out-notes.txt").write_text("not ours")
    (tmp_path / "out-000001-cut-short.mp4").write_bytes(bytes(50_000))
    segments = Segments(tmp_path / "out.mp4", 25, minutes=1 / 20, keep_bytes=keep)
    for number in range(200):
        segments.write(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), number / 25)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.mp4")) < keep + 20_000  # a frame, at most
    segments.finish()
    left = names(tmp_path)
    assert left.pop() == "out-notes.txt"
    assert "out-000001-cut-short.mp4" not in left
    assert 2 <= len(left) < int(left[-1][4:10]) - 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*.mp4")) < keep + 30_000  # two frames


def test_after_kill_9_the_next_start_finishes_the_recording(artifact, tmp_path):
    """Every frame whose mask came out had been written to the video before."""
    words = [sys.executable, "-m", "runtime", artifact, "--source", "-", "--size", "32x96", "--masks", "-", "--save",
             tmp_path / "out.mp4"]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"".join(numbered(number, SIZE).tobytes() for number in range(30)))
    process.stdin.flush()
    assert len(process.stdout.read(30 * 32 * 96)) == 30 * 32 * 96
    process.kill()
    process.communicate()
    again = subprocess.run(words, cwd=ROOT, input=numbered(99, SIZE).tobytes(), capture_output=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert b"out-cut-short.mp4" in again.stderr
    assert names(tmp_path) == ["out-cut-short.mp4", "out.mp4"]
    assert len(shown(tmp_path / "out-cut-short.mp4")) == 29  # the last one was on its way
    assert len(shown(tmp_path / "out.mp4")) == 1


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import av, onnxruntime, runtime.segments, runtime.serve, runtime.sinks, runtime.stream
from runtime.__main__ import main
artifact, source, runs = sys.argv[1], sys.argv[2], Path(sys.argv[3])
rng = random.Random(0)
for number in range(100):
    out = runs / str(number)
    (out / "masks").mkdir(parents=True)
    child = os.fork()
    if not child:
        os._exit(main([artifact, "--source", source, "--policy", "latest", "--save", str(out / "out.mp4"), "--masks",
                       str(out / "masks")]))
    while not list((out / "masks").glob("[0-9]*.png")):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 4.5))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
"""The command over a video of four seconds, played as if it were a camera, a hundred times; each ends by kill -9 at a
random moment after its first frame, or is about to end. Forked, so that what is killed has its imports behind it."""


@pytest.mark.slow
def test_of_100_recordings_killed_at_random_none_is_unplayable_and_none_misses_more_than_a_second(artifact, tmp_path):
    """Masks are written after the video, so the last mask tells what the video was given. A frame is in the file when
    the next one comes: what is killed before its second frame has no video."""
    subprocess.run([sys.executable, "-c", KILLED, artifact, clip(tmp_path / "in.avi", 100), tmp_path / "runs"],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    missing = []
    for folder in (tmp_path / "runs").iterdir():
        finish_unfinished(folder / "out.mp4")
        videos = list(folder.glob("out*.mp4"))
        masks = sorted(int(path.stem) for path in (folder / "masks").glob("[0-9]*.png"))
        assert len(videos) == 1 or (len(masks) == 1 and not videos)
        missing.append((masks[-1] - masks[0]) / 25 - (shown(videos[0])[-1][0] if videos else 0))
    assert len(missing) == 100
    print(f"{sum(m > 0.001 for m in missing)} of 100 miss something, at most {max(missing):.2f} s")
    assert max(missing) <= 1
