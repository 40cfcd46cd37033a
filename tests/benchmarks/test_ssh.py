"""A board over ssh: what is copied, what it lacks, and how a connection ends. Most tests have a shell for an ssh."""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import latency, ssh, sweep
from benchmarks.measurement import read
from benchmarks.page.candidates import joined
from benchmarks.remote import Remote
from benchmarks.ssh import Board
from benchmarks.sweep import Sweep
from benchmarks.worker import Worker
from runtime import Segmenter
from runtime.errors import Incomplete, UserError
from tests import colours
from tests.arm64.root import interpreter

HERE = Board("pi@board", 2222, sys.executable)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The board's home folder; its `ssh` runs the command there, on this machine."""
    folder = tmp_path / "home"
    folder.mkdir()
    script(tmp_path / "bin" / "ssh", 'while [ "$1" != "--" ]; do shift; done; shift 2; '
                                     f'cd {folder} && HOME={folder} exec sh -c "$*"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def files(tmp_path) -> list[Path]:
    paths = [tmp_path / "x.onnx", tmp_path / "x.onnx.json"]
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.mark.parametrize(("text", "expected"), [
    ("ssh://board", Board("board")), ("ssh://pi@board.local:2222", Board("pi@board.local", 2222)),
    ("ssh://pi@192.168.1.7", Board("pi@192.168.1.7")), ("ssh://pi@board/", Board("pi@board"))])
def test_a_board_is_an_address_as_ssh_has_it(text, expected):
    assert ssh.board(text) == expected
    assert str(expected) == text.rstrip("/")


@pytest.mark.parametrize("text", ["board", "http://board", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b",
                                  "ssh://pi@-x", "ssh://x:port", "ssh://x/folder", "ssh://x;y", "ssh://x\n"])
def test_what_is_no_address_never_reaches_ssh(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected ssh://"):
        ssh.board(text)


def test_ssh_gets_no_word_of_ours_as_an_option_and_the_board_none_as_a_command():
    command = HERE.command("-c", "print('a; b')", folder="my folder")
    there = f"cd 'my folder' && exec {sys.executable} -c 'print('\"'\"'a; b'\"'\"')'"
    assert command[command.index("--"):] == ["--", "pi@board", there]
    assert command[command.index("-p") + 1] == "2222"


def test_code_and_files_are_copied_once(home, files, monkeypatch):
    code, (folder,) = ssh.prepare(HERE, [files])
    assert [(home / folder / path.name).read_text() for path in files] == [path.name for path in files]
    assert (home / code / "benchmarks" / "worker.py").is_file()
    assert sorted(path.name for path in (home / ssh.FOLDER).iterdir()) == sorted(Path(p).name for p in (code, folder))
    monkeypatch.setattr(ssh, "_packed", lambda folders: pytest.fail(f"{list(folders)} are copied again"))
    assert ssh.prepare(HERE, [files]) == (code, [folder])


def test_the_code_that_is_copied_needs_nothing_that_is_not(home):
    code, _ = ssh.prepare(HERE, [])
    done = subprocess.run(HERE.command("-c", "import benchmarks.worker, benchmarks.machine, calibration.data.frames, "
                                       "runtime.segmenter; print(benchmarks.worker.__file__)", folder=code),
                          capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""})
    assert done.stdout.strip() == str(home / code / "benchmarks" / "worker.py"), done.stderr


def test_a_file_that_changed_is_another_one_there(home, files):
    before = ssh.prepare(HERE, [files])[1]
    files[0].write_text("changed")
    after = ssh.prepare(HERE, [files])[1]
    assert before != after
    assert (home / after[0] / "x.onnx").read_text() == "changed"


def test_a_copy_that_breaks_off_leaves_nothing(home):
    (home / ssh.FOLDER).mkdir(parents=True)
    packed = ssh._packed({"abc": {"big": bytes(100_000)}})
    with pytest.raises(Incomplete, match="ended with code 1"):
        HERE.run("-c", ssh.RECEIVE, ssh.FOLDER, given=packed[:50_000])
    assert list((home / ssh.FOLDER).iterdir()) == []


def test_packages_that_are_lacking_are_named_with_the_command_that_installs_them(home, files, monkeypatch):
    monkeypatch.setitem(ssh.NEEDED, "cv3", "opencv-next")
    with pytest.raises(UserError, match=r"lacks cv3, litert9. Try: ssh pi@board .* -m pip install opencv-next litert9"):
        ssh.prepare(HERE, [files], [["msgspec"], ["litert9", "litert8"]])
    assert list((home / ssh.FOLDER).iterdir()) == []


def test_too_little_room_is_told_before_anything_is_copied(home, files, monkeypatch):
    monkeypatch.setattr(ssh, "ROOM_MB", 10**12)
    with pytest.raises(UserError, match=r"MB free in ~/.*; expected 10000000000\d\d MB. Try: ssh .*rm"):
        ssh.prepare(HERE, [files])


def test_an_old_python_and_none_at_all_are_told_apart(home, monkeypatch):
    with pytest.raises(UserError, match=r"has no interpreter 'python9' .*Try: --python PATH"):
        ssh.prepare(Board("board", python="python9"), [])
    monkeypatch.setattr(ssh, "OLDEST_PYTHON", (9, 1))
    with pytest.raises(UserError, match=r"has Python 3\.\d+\.\d+; expected 9.1 or later"):
        ssh.prepare(HERE, [])


@pytest.mark.parametrize(("code", "said", "kind", "message"), [
    (255, "Host key verification failed.\n", UserError, "not reached .Host key verification failed"),
    (255, "ssh: connect to host x port 22: Connection refused", UserError, "not reached .*refused"),
    (255, "Connection to x closed by remote host.\n", Incomplete, "was lost .*measured before is kept"),
    (255, "Timeout, server x not responding.\n", Incomplete, "was lost"),
    (1, "OSError: [Errno 28] No space left on device", UserError, "no room left .*Try: ssh -p 2222 pi@board rm -r"),
    (137, "Killed\n", Incomplete, "ended with code 137 .Killed"),
])
def test_every_way_to_end_is_one_clear_line(code, said, kind, message):
    error = HERE.broken(code, said)
    assert type(error) is kind
    assert "\n" not in str(error)
    with pytest.raises(kind, match=message):
        raise error


def test_latency_is_measured_there_and_the_row_names_the_board(home, tmp_path, monkeypatch, capsys):
    path = colours.artifact(tmp_path / "artifact")
    monkeypatch.setattr(latency, "QUICK", latency.Rule(queries=4, seconds=0, rounds=2, quick=True))
    rows = tmp_path / "rows.jsonl"
    words = [str(path), "--quick", "--on", "ssh://pi@board", "--python", sys.executable, "--rows", str(rows)]
    assert latency.main(words) == 0, capsys.readouterr().err
    (entry,) = read(rows)
    assert entry.machine["board"] == "pi@board"
    assert entry.machine["cores"] >= 1
    assert (entry.samples, entry.engine) == (4, "onnx")
    assert "cold_start_ms" not in entry.values  # two clocks
    assert entry.values["p50_ms"] > 0
    assert {path.name for path in (home / ssh.FOLDER).rglob("*.onnx*")} == {path.name, f"{path.name}.json"}


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Sweep:
    """A sweep over an artifact that is there, on the board."""
    path, data = colours.artifact(tmp_path / "artifact"), tmp_path / "data"
    for part, image in (("images", colours.numbered(5)), ("labels", np.zeros((16, 48), np.uint8))):
        (data / part).mkdir(parents=True)
        cv2.imwrite(str(data / part / "0.png"), image)
    monkeypatch.setattr(sweep, "exported", lambda candidate, plan, say: path)
    monkeypatch.setattr(latency, "QUICK", latency.Rule(queries=2, seconds=0, rounds=1, quick=True))
    return Sweep(data, None, tmp_path / "out", (1,), {"onnx": ("onnx",)}, True, None, HERE)


def test_a_sweep_takes_time_and_accuracy_there_and_loses_no_row_with_the_connection(home, plan, monkeypatch):
    def lost(*_: object, **__: object) -> None:
        raise HERE.broken(255, "Connection to board closed by remote host.")

    wanted = [sweep.Candidate("colours", (16, 48), "onnx", "fp32", None)]
    with monkeypatch.context() as patch:
        patch.setattr(latency, "measure", lost)
        with pytest.raises(Incomplete, match="measured before is kept"):
            sweep.run(plan, wanted, lambda line: None)
    first = read(plan.rows)
    assert [(entry.kind, entry.machine.get("board")) for entry in first] == [("complexity", None),
                                                                             ("accuracy", "pi@board")]
    with monkeypatch.context() as patch:
        patch.setattr(latency.Record, "complaints", lambda record: ())  # as on an idle board
        sweep.run(plan, wanted, lambda line: None)
    rows = read(plan.rows)
    assert rows[:2] == first
    assert [(entry.kind, entry.machine.get("board")) for entry in rows[2:]] == [("latency", "pi@board")]
    here = replace(rows[2], machine={"cpu": "another"})
    assert [candidate.machine.split(", ")[0] for candidate in joined([*rows, here])] == ["pi@board", "another"]
    assert joined([*rows, here])[0].miou == first[1].values["miou"]


def test_masks_of_the_board_are_the_engines_own(home, tmp_path):
    path, frame = colours.artifact(tmp_path), colours.numbered(1234, (33, 97))
    with Remote(path, "onnx", HERE) as there, Segmenter.open(path) as segmenter:
        assert np.array_equal(there(frame).mask, segmenter(frame).mask)


def test_a_connection_that_is_lost_is_told_and_leaves_nothing_running(home, tmp_path):
    path = colours.artifact(tmp_path / "artifact")
    with Worker(path, 1, None, None, HERE) as worker:
        worker._process.kill()
        with pytest.raises(Incomplete, match="ended with code -9"):
            worker.ask(queries=1, seconds=0)
    with Worker(path, 1, None, None, HERE) as worker:
        assert worker._process.stdin is not None
        worker._process.stdin.close()  # what sshd does when the connection is gone
        worker._process.stdin = None
        assert worker._process.wait(60) == 0


def test_an_interpreter_without_a_board_is_the_users_mistake(capsys, tmp_path):
    assert latency.main([str(colours.artifact(tmp_path)), "--python", "python3.11"]) == 2
    assert "--python python3.11 goes with --on" in capsys.readouterr().err


@pytest.fixture
def loopback(tmp_path, monkeypatch) -> Iterator[Board]:
    """A real sshd with a port, a host key and a user key of its own; `ssh` knows it as "board"."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("no sshd is installed; apt install openssh-server")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    force = script(tmp_path / "force", f'cd {home} && HOME={home} exec sh -c "$SSH_ORIGINAL_COMMAND"')
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nForceCommand {force}\n")
    key = (tmp_path / "host.pub").read_text().split()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
    (tmp_path / "config").write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {tmp_path}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {tmp_path}/known_hosts\n StrictHostKeyChecking yes\n")
    script(tmp_path / "bin" / "ssh", f'exec {shutil.which("ssh")} -F {tmp_path}/config "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    server = subprocess.Popen([sshd, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Board("board", python=sys.executable)
    finally:
        server.terminate()
        server.wait()


@pytest.mark.slow
def test_a_real_sshd_takes_the_code_and_a_wrong_host_key_ends_in_one_line(loopback, files, tmp_path):
    _, (folder,) = ssh.prepare(loopback, [files])
    assert (tmp_path / "home" / folder / "x.onnx").read_text() == "x.onnx"
    other = (tmp_path / "user.pub").read_text().split()[1]
    known = tmp_path / "known_hosts"
    known.write_text(" ".join([*known.read_text().split()[:2], other]) + "\n")
    with pytest.raises(UserError, match=r"was not reached .*Host key verification failed.*Try: ssh board"):
        ssh.prepare(loopback, [files])


@pytest.mark.slow
def test_an_emulated_arm64_board_behind_a_real_sshd_fills_a_row(loopback, tmp_path):
    try:
        python = interpreter("cortex-a76")
    except UserError as error:
        pytest.skip(str(error))
    path = colours.artifact(tmp_path / "artifact")
    rule = latency.Rule(queries=2, seconds=0, rounds=1, quick=True)
    (entry,) = latency.measure([(path, None)], rule=rule, on=Board("board", python=str(python)))
    assert entry.machine["board"] == "board"
    assert "asimddp" in entry.machine["instructions"]
    assert entry.samples == 2
