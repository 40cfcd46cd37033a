"""What goes to a board: once, whole, and only after the board was seen to have what it takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime import board, board_files
from runtime.board import Board
from runtime.errors import BoardUnusable, Incomplete, UserError
from tests.boards import HERE


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / "x.onnx", tmp_path / "x.onnx.json"]
    for path in paths:
        path.write_text(path.name)
    return paths


def test_code_and_files_are_copied_once(home, files, monkeypatch):
    code, (folder,) = board_files.prepare(HERE, [files])
    assert [(home / code / folder / path.name).read_text() for path in files] == [path.name for path in files]
    assert (home / code / "benchmarks" / "worker.py").is_file()
    assert sorted(path.name for path in (home / board.FOLDER).iterdir()) == sorted(Path(p).name for p in (code, folder))
    monkeypatch.setattr(board_files, "_packed", lambda folders: pytest.fail(f"{list(folders)} are copied again"))
    assert board_files.prepare(HERE, [files]) == (code, [folder])


@pytest.mark.parametrize("module", ["benchmarks.worker", "benchmarks.pipeline", "benchmarks.measurement",
                                    "runtime.board_command", "runtime.__main__", "runtime.stream", "runtime.tune"])
def test_the_code_that_is_copied_needs_nothing_that_is_not(home, module):
    code, _ = board_files.prepare(HERE)
    everything = (f"import ast, importlib, sys\n"
                  f"tree = ast.parse(open(importlib.import_module({module!r}).__file__).read())\n"
                  "for node in ast.walk(tree):\n"
                  "    if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] in "
                  "('runtime', 'calibration', 'benchmarks', 'export'): importlib.import_module(node.module)\n"
                  "print(*[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in "
                  "('runtime', 'calibration', 'benchmarks', 'export') and m.__file__], sep='\\n')")
    done = subprocess.run(HERE.command("-c", everything, folder=code), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(f"{home / code}/") for path in done.stdout.split())


def test_a_folder_travels_as_a_folder(home, tmp_path):
    package = tmp_path / "x.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weights").write_bytes(b"1")
    code, (there,) = board_files.prepare(HERE, [[package]])
    assert (home / code / there / "x.mlpackage" / "Data" / "weights").read_bytes() == b"1"


def test_what_killed_processes_have_left_is_removed_and_what_living_ones_use_is_not(home):
    folder = home / board.FOLDER
    dead, living = folder / ".999999999.x", folder / f".{os.getpid()}.x"
    for path in (dead, living):
        path.mkdir(parents=True)
    board_files.prepare(HERE)
    assert (dead.exists(), living.exists()) == (False, True)


def test_a_file_that_changed_is_another_one_there(home, files):
    before = board_files.prepare(HERE, [files])[1]
    files[0].write_text("changed")
    code, after = board_files.prepare(HERE, [files])
    assert before != after
    assert (home / code / after[0] / "x.onnx").read_text() == "changed"


def test_a_copy_that_breaks_off_leaves_nothing(home):
    (home / board.FOLDER).mkdir(parents=True)
    packed = board_files._packed({"abc": {"big": bytes(100_000)}})
    with pytest.raises(Incomplete, match="ended with code 1"):
        HERE.run("-c", board_files.RECEIVE, board.FOLDER, given=packed[:50_000])
    assert list((home / board.FOLDER).iterdir()) == []


def test_packages_that_are_lacking_are_named_with_the_command_that_installs_them(home, files, monkeypatch):
    monkeypatch.setitem(board_files.NEEDED, "cv3", "opencv-next")
    wanted = r"lacks cv3, litert9. Try: ssh -p 2222 pi@board .* -m pip install opencv-next litert9"
    with pytest.raises(UserError, match=wanted):
        board_files.prepare(HERE, [files], [["msgspec"], ["litert9", "litert8"]])
    assert list((home / board.FOLDER).iterdir()) == []


def test_too_little_room_is_told_before_anything_is_copied(home, files, monkeypatch):
    monkeypatch.setattr(board_files, "ROOM_MB", 10**12)
    with pytest.raises(BoardUnusable, match=r"MB free in ~/.*; expected 10000000000\d\d MB. Try: ssh .*rm"):
        board_files.prepare(HERE, [files])


def test_an_old_python_and_none_at_all_are_told_apart(home, monkeypatch):
    with pytest.raises(UserError, match=r"has no interpreter 'python9' .*Try: --python PATH"):
        board_files.prepare(Board("board", python="python9"), [])
    monkeypatch.setattr(board_files, "OLDEST_PYTHON", (9, 1))
    with pytest.raises(UserError, match=r"has Python 3\.\d+\.\d+; expected 9.1 or later"):
        board_files.prepare(HERE, [])


@pytest.mark.slow
def test_a_real_sshd_takes_the_code_and_a_wrong_host_key_ends_in_one_line(loopback, files, tmp_path):
    code, (folder,) = board_files.prepare(loopback, [files])
    assert (tmp_path / "home" / code / folder / "x.onnx").read_text() == "x.onnx"
    other = (tmp_path / "user.pub").read_text().split()[1]
    known = tmp_path / "known_hosts"
    known.write_text(" ".join([*known.read_text().split()[:2], other]) + "\n")
    with pytest.raises(UserError, match=r"was not reached .*Host key verification failed.*Try: ssh board"):
        board_files.prepare(loopback, [files])
