"""A command on a board: its files come here, its errors are told here, and nothing of it stays there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile

import cv2
import pytest

from runtime import __main__ as command
from runtime import board, board_command, board_files
from runtime.errors import Incomplete
from runtime.video import image_paths
from tests import colours
from tests.boards import HERE

ON = ["--on", "ssh://pi@board", "--python", sys.executable]


@pytest.fixture
def artifact(tmp_path):
    return colours.artifact(tmp_path / "artifact")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), colours.numbered(number))
    return folder


def left_on(home):
    """Names of unfinished things on the board."""
    return [path.name for path in (home / board.FOLDER).iterdir() if path.name.startswith(".")]


def test_masks_and_figures_of_a_stream_on_a_board_come_here(home, artifact, images, tmp_path, capfd):
    words = [str(artifact), "--source", str(images), "--masks", str(tmp_path / "masks"), "--sheet",
             str(tmp_path / "sheet.png"), "--stats", str(tmp_path / "stats.json"), "--workers", "2", *ON]
    assert command.main(words) == 0, capfd.readouterr().err
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in image_paths(tmp_path / "masks")]
    assert [colours.number_of(mask) for mask in masks] == list(range(5))
    assert json.loads((tmp_path / "stats.json").read_text())["frames"] == 5
    assert (tmp_path / "sheet.png").is_file()
    assert "5 frames at " in capfd.readouterr().out
    assert left_on(home) == []


@pytest.mark.slow
def test_a_video_goes_there_and_a_recording_comes_back(home, artifact, tmp_path, capfd):
    pytest.importorskip("av")
    clip = colours.clip(tmp_path / "clip.avi", 6)
    assert command.main([str(artifact), "--source", str(clip), "--save", str(tmp_path / "out.mp4"), *ON]) == 0
    assert (tmp_path / "out.mp4").stat().st_size > 0
    assert left_on(home) == []


def test_an_error_there_is_one_line_here_with_its_code_and_the_board(home, artifact, tmp_path, capfd):
    assert command.main([str(artifact), "--source", "/no/camera.mp4", "--masks", str(tmp_path / "masks"), *ON]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("runtime: error: ssh://pi@board: ")
    assert "/no/camera.mp4" in line
    assert left_on(home) == []


@pytest.mark.parametrize(("words", "expected"), [
    (["--masks", "-"], "stdin or stdout"), (["--show"], "no window"), (["--serve", "0"], "free here and there"),
    (["--save", "x.mp4", "--segment", "3"], "no recording without end")])
def test_what_cannot_go_over_ssh_is_said_before_anything_is_copied(home, artifact, capsys, monkeypatch, words, expected,
                                                                   tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command.main([str(artifact), "--source", "0", *words, *ON]) == 2
    assert expected in capsys.readouterr().err
    assert list(home.iterdir()) == []


def archive(*files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as made:
        for name, kind in files:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, 3 if kind == tarfile.REGTYPE else 0
            entry.linkname = "/etc/passwd"
            made.addfile(entry, io.BytesIO(b"new"))
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize("name", ["masks/../x", "../x", "/x", "elsewhere/x", "masks/a/b", "masks/.x", "masks", "x"])
def test_a_board_can_write_nowhere_but_where_it_was_asked_to(tmp_path, name):
    with pytest.raises(Incomplete, match="was not requested"):
        board_command._receive(archive(("masks/1.png", tarfile.REGTYPE), (name, tarfile.REGTYPE)),
                               {"masks": tmp_path / "m"})
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == ["m/1.png"]


def test_a_link_from_a_board_is_refused(tmp_path):
    with pytest.raises(Incomplete, match="was not requested"):
        board_command._receive(archive(("masks/1.png", tarfile.SYMTYPE)), {"masks": tmp_path})


def test_a_stream_that_breaks_off_leaves_whole_files_only(tmp_path):
    whole = archive(("masks/1.png", tarfile.REGTYPE), ("masks/2.png", tarfile.REGTYPE)).getvalue()
    for cut in (1024, 1100, 1537):
        assert not board_command._receive(io.BytesIO(whole[:cut]), {"masks": tmp_path})
        assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_flags_are_typed_again_as_they_were_read(artifact):
    found = {}

    def parsed(words):
        def note(_, parser, argv):
            found["parser"], found["args"] = parser, parser.parse_args(argv)
            return 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command.cli, "run", note)
            command.main(words)
        return found["parser"], vars(found["args"])

    words = ["x.onnx", "--source", "a b", "--size", "8x16", "--every", "3", "--smooth", "--serve", "0", "--alpha", "0"]
    parser, values = parsed(words)
    assert parsed(board_command.flags(parser, values))[1] == values


ENDLESS = """
import os, signal, sys, time
def finish(*_):
    time.sleep(float(sys.argv[2]))
    sys.exit(143)
signal.signal(signal.SIGTERM, finish)
folder, name = os.path.split(sys.argv[1])
with open(f"{folder}/.{name}", "w") as file:
    file.write(str(os.getpid()))
os.rename(f"{folder}/.{name}", sys.argv[1])
time.sleep(1000)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("end", ["closed", "silent", "terminated", "stuck"])
def test_when_the_connection_is_gone_the_command_ends_and_nothing_stays(home, end):
    """A closed pipe is all that a board sees of a connection that was lost, and silence all of a cable pulled."""
    code, _ = board_files.prepare(HERE)
    (home / code / "endless.py").write_text(ENDLESS)
    for name, patience, hurry in (("board", "SILENCE_S = 15, 60", "SILENCE_S = 15, 2"),
                                  ("board_command", "FINISH_S = 20.0", "FINISH_S = 1.0")):
        text = (home / code / "runtime" / f"{name}.py").read_text()
        assert patience in text
        (home / code / "runtime" / f"{name}.py").write_text(text.replace(patience, hurry))
    words = ["-m", "runtime.board_command", "endless", "@out/masks/pid", "100" if end == "stuck" else "0"]
    process = subprocess.Popen(HERE.command(*words, folder=code), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|", bufsize=board_command.BLOCK) as stream:
            pid = int(stream.extractfile(stream.next()).read())  # it came while the command runs
            assert alive(pid)
            if end in ("closed", "stuck"):
                process.stdin.close()
            elif end == "terminated":
                process.send_signal(signal.SIGTERM)
            assert process.wait(60) != 0
        assert not alive(pid)
        assert left_on(home) == []
    finally:
        process.kill()
        process.wait()
