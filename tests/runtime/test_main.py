"""`python -m runtime` in a process of its own: what it leaves behind, and how it ends on bad input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.artifact import json_path
from tests.colours import clip, number_of, numbered
from tests.conftest import ROOT
from tests.runtime.test_video import frames_in

pytest.importorskip("av", reason="most of these record a video, for which PyAV, the extra `record`, is needed")


def fails(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    """It ended with `code` and one line that holds `message`."""
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith("runtime: error: ")
    assert message in done.stderr


def masks_in(folder: Path) -> list[int]:
    return [number_of(cv2.imread(str(p), cv2.IMREAD_UNCHANGED)) for p in sorted(folder.iterdir())]


def test_a_video_becomes_an_overlay_masks_a_sheet_and_statistics(command, artifact, tmp_path):
    done = command(artifact, "--source", clip(tmp_path / "in.mp4", 9), "--save", tmp_path / "out.mp4", "--masks",
                   tmp_path / "masks", "--sheet", tmp_path / "sheet.png", "--stats", tmp_path / "stats.json")
    assert done.returncode == 0, done.stderr
    assert "9 frames" in done.stdout
    assert frames_in(tmp_path / "out.mp4") == 9
    assert masks_in(tmp_path / "masks") == list(range(9))
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] == 3 * 480
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["frames"] == 9
    assert {"read", "preprocess", "inference", "mask", "draw", "write", "end to end"} <= set(stats["stages_ms"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "masks", "out.mp4", "sheet.png", "stats.json"]


def test_raw_masks_on_stdout_are_alone_there(artifact):
    frames = b"".join(numbered(n, (32, 96)).tobytes() for n in (5, 7))
    done = subprocess.run([sys.executable, "-m", "runtime", artifact, "--source", "-", "--size", "32x96", "--masks",
                           "-"], cwd=ROOT, input=frames, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    masks = np.frombuffer(done.stdout, np.uint8).reshape(2, 32, 96)
    assert [number_of(mask) for mask in masks] == [5, 7]
    assert b"2 frames" in done.stderr


def test_max_frames_ends_early_with_success(command, artifact, tmp_path):
    source = clip(tmp_path / "in.mp4", 9)
    done = command(artifact, "--source", source, "--save", tmp_path / "out.mp4", "--max-frames", 4)
    assert done.returncode == 0, done.stderr
    assert frames_in(tmp_path / "out.mp4") == 4


@pytest.mark.parametrize(("arguments", "message"), [
    (["--source", "{tmp}/absent.mp4"], "does not exist"),
    (["--source", "{tmp}/empty.mp4"], "gives no frames"),
    (["--source", "{tmp}/noise.mp4"], "gives no frames"),
    (["--source", "{tmp}/folder"], "holds no images"),
    (["--source", "97"], "camera 97 gives no frames"),
    (["--source", "-"], "--size"),
    (["--source", "a ! b"], "GStreamer"),
    (["--alpha", "2"], "--alpha 2"),
    (["--max-frames", "0"], "--max-frames: '0' is not a whole number of at least 1"),
    (["--save", "{tmp}/absent/out.mp4"], "mkdir -p"),
    (["--save", "{tmp}/empty.mp4/out.mp4"], "not a folder"),
    (["--save", "/proc/out.mp4"], "cannot write"),
    (["--save", "{tmp}/folder"], "it is a folder"),
    (["--save", "{tmp}/out.avi"], ".mp4"),
    (["--masks", "{tmp}/empty.mp4"], "not a folder"),
    (["--stats", "{tmp}/absent/stats.json"], "mkdir -p"),
    (["--save", "{tmp}/out.mp4", "--keep", "1"], "--keep 1"),
    (["--segment", "1"], "--segment was received without --save"),
    (["--show"], "needs a display"),
])
def test_a_mistake_is_one_line_exit_code_2_and_leaves_nothing(command, artifact, tmp_path, arguments, message):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "folder").mkdir()
    clip(tmp_path / "in.mp4", 3)
    before = sorted(tmp_path.rglob("*"))
    given = [a.format(tmp=tmp_path) for a in arguments]
    if "--source" not in given:
        given += ["--source", str(tmp_path / "in.mp4")]
    if "--masks" not in given:
        given += ["--masks", str(tmp_path / "masks")]
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = command(artifact, *given, env=env)
    fails(done, 2, message)
    made = set(tmp_path.rglob("*")) - set(before)
    assert {p for p in made if p.is_file()} == set()


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda path: path.write_bytes(path.read_bytes()[:100]), "cut short"),
    (lambda path: json_path(path).write_text("{}"), "not an edgeseg artifact"),
    (lambda path: json_path(path).unlink(), "is missing beside"),
])
def test_a_damaged_artifact_is_one_line_exit_code_2_and_leaves_nothing(command, artifact, tmp_path, spoil, message):
    for path in (artifact, json_path(artifact)):
        shutil.copy(path, tmp_path)
    spoil(tmp_path / artifact.name)
    done = command(tmp_path / artifact.name, "--source", clip(tmp_path / "in.mp4", 3), "--save", tmp_path / "out.mp4",
                   "--masks", tmp_path / "masks")
    fails(done, 2, message)
    assert not (tmp_path / "out.mp4").exists()
    assert not (tmp_path / "masks").exists()


def test_a_video_that_breaks_in_the_middle_keeps_its_frames_and_exits_1(command, artifact, tmp_path):
    whole = clip(tmp_path / "whole.avi", 60)
    broken = tmp_path / "broken.avi"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = command(artifact, "--source", broken, "--save", tmp_path / "out.mp4", "--masks", tmp_path / "masks")
    fails(done, 1, "breaks off after")
    count = frames_in(tmp_path / "out.mp4")
    assert 15 <= count < 50
    assert masks_in(tmp_path / "masks") == list(range(count))


def test_a_full_disk_is_one_line_exit_code_2_and_the_video_so_far_plays(command, artifact, tmp_path):
    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    source = clip(tmp_path / "in.mp4", 200, (240, 320))
    done = command(artifact, "--source", source, "--save", tmp_path / "out.mp4", preexec_fn=small_files_only)
    fails(done, 2, "is the disk full?")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
    assert 0 < frames_in(tmp_path / "out.mp4") < 200


def test_a_disk_too_full_for_a_mask_ends_with_the_systems_word_for_it(command, artifact, tmp_path):
    source = clip(tmp_path / "in.mp4", 5, (240, 320))
    done = command(artifact, "--source", source, "--masks", tmp_path / "masks",
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    fails(done, 2, "File too large")
    assert list((tmp_path / "masks").iterdir()) == []


def test_serving_says_where_and_the_run_ends_with_its_source(command, artifact, tmp_path):
    done = command(artifact, "--source", clip(tmp_path / "in.mp4", 3), "--serve", 0)
    assert done.returncode == 0, done.stderr
    assert "watch it at http://127.0.0.1:" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interruption_the_video_written_so_far_plays(artifact, tmp_path, number):
    """The source is a pipe that this test holds, so the process cannot be further than the five frames it was given."""
    process = subprocess.Popen([sys.executable, "-m", "runtime", artifact, "--source", "-", "--size", "32x96",
                                "--masks", "-", "--save", tmp_path / "out.mp4"], cwd=ROOT, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    for frame in range(5):
        process.stdin.write(numbered(frame, (32, 96)).tobytes())
    process.stdin.flush()
    assert len(process.stdout.read(5 * 32 * 96)) == 5 * 32 * 96
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert b"interrupted" in process.communicate()[1]
    assert 4 <= frames_in(tmp_path / "out.mp4") <= 5
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
