"""Boards for tests: a shell that stands for ssh and a board at once, and a real sshd on this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.board import Board

HERE = Board("pi@board", 2222, sys.executable)
"""What the stand-in answers for."""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    path.chmod(0o755)
    return path


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The board's home folder; its `ssh` runs the command there, on this machine."""
    folder = tmp_path / "home"
    folder.mkdir()
    script(tmp_path / "bin" / "ssh", 'while [ "$1" != "--" ]; do shift; done; shift 2; '
                                     f'cd {folder} && HOME={folder} exec sh -c "$*"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return folder


@contextmanager
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str | Path = sys.executable) -> Iterator[Board]:
    """A real sshd with a port, a host key and a user key of its own; `ssh` knows it as "board", whose home folder is
    tmp_path/home and whose interpreter is `python`. `cut` ends its connections."""
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
        f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile {tmp_path}/sshd.pid\nForceCommand {force}\n")
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
        yield Board("board", python=str(python))
    finally:
        server.terminate()
        server.wait()


def cut(tmp_path: Path) -> None:
    """End all connections of an `sshd`, as a board does that loses its power; new ones are taken."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", (tmp_path / "sshd.pid").read_text().strip()],
                            capture_output=True, text=True, check=False).stdout
    for pid in listed.split():
        os.kill(int(pid), signal.SIGKILL)
