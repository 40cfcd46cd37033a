"""What systemd hears of a stream."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from runtime import watchdog
from tests.colours import clip
from tests.runtime.test_sinks import result


@pytest.fixture
def systemd(tmp_path):
    """The end of the socket that systemd listens at."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(0)
        yield listening


def heard(listening: socket.socket) -> list[list[str]]:
    messages = []
    while True:
        try:
            messages.append(listening.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return messages


def test_it_is_ready_with_the_first_frame_alive_once_a_second_and_stopping_at_the_end(systemd, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watchdog, "monotonic", lambda: now[0])
    dog = watchdog.Watchdog(systemd.getsockname())
    assert heard(systemd) == []
    for index in range(20):
        dog.write(result(index))
        now[0] += 0.125
    messages = heard(systemd)
    assert [words[:-1] for words in messages] == [["READY=1", "WATCHDOG=1"], ["WATCHDOG=1"], ["WATCHDOG=1"]]
    assert messages[1][-1].startswith("STATUS=frame 8, ")
    dog.close()
    assert heard(systemd) == [["STOPPING=1"]]


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_found_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0edgeseg-test-{os.getpid()}")
        watchdog.Watchdog(f"@edgeseg-test-{os.getpid()}").close()
        assert listening.recv(100) == b"STOPPING=1"


def test_the_command_reports_where_systemd_started_it(command, artifact, systemd, tmp_path):
    done = command(artifact, "--source", clip(tmp_path / "in.mp4", 3),
                   env={**os.environ, "NOTIFY_SOCKET": systemd.getsockname()})
    assert done.returncode == 0, done.stderr
    messages = heard(systemd)
    assert messages[0][0] == "READY=1"
    assert messages[-1] == ["STOPPING=1"]
