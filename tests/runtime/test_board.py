"""A board's address, what ssh is told, and what it means how a connection ends."""

from __future__ import annotations

import argparse
import io
import sys
import time

import pytest

from runtime import board
from runtime.board import Board, Line
from runtime.errors import BoardUnusable, Incomplete, UserError
from tests.boards import HERE


@pytest.mark.parametrize(("text", "expected"), [
    ("ssh://board", Board("board")), ("ssh://pi@board.local:2222", Board("pi@board.local", 2222)),
    ("ssh://pi@192.168.1.7", Board("pi@192.168.1.7")), ("ssh://pi@board/", Board("pi@board"))])
def test_a_board_is_an_address_as_ssh_has_it(text, expected):
    assert board.board(text) == expected
    assert str(expected) == text.rstrip("/")


@pytest.mark.parametrize("text", ["board", "http://board", "ssh://", "ssh://-oProxyCommand=x", "ssh://a b",
                                  "ssh://pi@-x", "ssh://x:port", "ssh://x/folder", "ssh://x;y", "ssh://x\n"])
def test_what_is_no_address_never_reaches_ssh(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected ssh://"):
        board.board(text)


def test_ssh_gets_no_word_of_ours_as_an_option_and_the_board_none_as_a_command():
    command = HERE.command("-c", "print('a; b')", folder="my folder")
    there = f"cd 'my folder' && exec {sys.executable} -c 'print('\"'\"'a; b'\"'\"')'"
    assert command[command.index("--"):] == ["--", "pi@board", there]
    assert command[command.index("-p") + 1] == "2222"


@pytest.mark.parametrize(("code", "said", "kind", "message"), [
    (255, "Host key verification failed.\n", BoardUnusable, "not reached .Host key verification failed"),
    (255, "kex_exchange_identification: read: Connection reset by peer\n", BoardUnusable, "not reached"),  # it boots
    (255, "", Incomplete, "was killed there"),
    (255, "client_loop: send disconnect: Broken pipe\n", Incomplete, "was lost"),
    (255, "bind [127.0.0.1]:8000: Address already in use\nCould not request local forwarding.\n", UserError, "port"),
    (255, "ssh: connect to host x port 22: Connection refused", BoardUnusable, "not reached .*refused"),
    (255, "Connection to x closed by remote host.\n", Incomplete, "was lost .*rows that were written are kept"),
    (255, "Timeout, server x not responding.\n", Incomplete, "was lost"),
    (1, "OSError: [Errno 28] No space left on device", BoardUnusable, "no room left .*Try: ssh -p 2222 pi@board rm -r"),
    (137, "Killed\n", Incomplete, "ended with code 137 .Killed"),
])
def test_every_way_to_end_is_one_clear_line(code, said, kind, message):
    error = HERE.broken(code, said)
    assert type(error) is kind
    assert "\n" not in str(error)
    with pytest.raises(kind, match=message):
        raise error


class Pipe(io.StringIO):
    """Fails when it is written to, as that of a process that has ended; keeps what it refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def write(self, text: str) -> int:
        self.refused.append(text)
        raise BrokenPipeError


def test_a_board_hears_of_us_while_it_has_nothing_to_do(monkeypatch):
    monkeypatch.setattr(board, "BEAT_S", 0.01)
    pipe = io.StringIO()
    line = Line(pipe, beats=True)
    line.send("a request")
    for _ in range(500):
        if pipe.getvalue().endswith("\n\n"):
            break
        time.sleep(0.01)
    assert pipe.getvalue().startswith("a request\n")
    assert pipe.getvalue().endswith("\n\n")
    line.close()
    assert pipe.closed


def test_a_process_that_has_ended_is_told_by_its_exit_code_and_not_by_its_pipe():
    pipe = Pipe()
    Line(pipe, beats=False).send("a request")
    assert pipe.refused == ["a request\n"]
