"""How commands end: one line, and an exit code that a script can trust."""

from __future__ import annotations

import argparse
import errno

import pytest

from runtime import cli
from runtime.errors import GateFailed, Incomplete, MissingLibrary, UserError


@pytest.mark.parametrize(("text", "expected"), [("360x480", (360, 480)), ("1X2", (1, 2))])
def test_a_size_is_height_by_width(text, expected):
    assert cli.size(text) == expected


@pytest.mark.parametrize("text", ["360", "360x", "axb", "0x5", "-1x5", "1x2x3"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        cli.size(text)


@pytest.mark.parametrize(("error", "code"), [
    (UserError("bad", try_="this"), 2), (MissingLibrary("x", "drawing", "dev"), 2), (GateFailed("no"), 1),
    (Incomplete("cut"), 1), (KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space left"), 2)])
def test_every_expected_failure_is_one_line_and_its_own_exit_code(error, code, capsys):
    def command(_):
        raise error

    assert cli.run(command, cli.parser("thing", "Does things.", "python -m thing"), []) == code
    message = capsys.readouterr().err
    assert message.startswith("thing: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize("argv", [["--no-such-flag"], ["--count", "0"], ["--count"]])
def test_a_command_that_cannot_be_parsed_is_one_line_too(argv, capsys):
    parser = cli.parser("thing", "Does things.", "python -m thing")
    parser.add_argument("--count", type=cli.positive)
    assert cli.run(lambda _: 0, parser, argv) == 2
    message = capsys.readouterr().err
    assert message.startswith("thing: error: ")
    assert message.endswith("Try: python -m thing --help\n")
    assert message.count("\n") == 1


def test_a_bug_of_ours_keeps_its_traceback():
    def command(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(command, cli.parser("thing", "Does things.", "python -m thing"), [])


def test_success_is_zero_and_silent(capsys):
    assert cli.run(lambda _: 0, cli.parser("thing", "Does things.", "python -m thing"), []) == 0
    assert capsys.readouterr() == ("", "")


def test_a_package_that_is_needed_and_missing_is_named_with_its_extra_before_any_work():
    cli.need("drawing", "dev", "json", "argparse")
    with pytest.raises(MissingLibrary, match=r"drawing needs the package 'no_such_thing'.*edgeseg\[dev\]"):
        cli.need("drawing", "dev", "json", "no_such_thing")


def test_progress_passes_everything_on_and_is_silent_off_a_terminal(capsys):
    assert list(cli.progress([1, 2], 2, "doing")) == [1, 2]
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_ends_at_the_total(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(cli.progress([1, 2], 2, "doing")) == [1, 2]
    assert "2/2" in capsys.readouterr().err


def test_an_error_keeps_what_happened_and_what_to_try_apart():
    error = UserError("a. Try: b was received", try_="c")
    assert (error.what, error.try_, str(error)) == ("a. Try: b was received", "c", "a. Try: b was received. Try: c")
    assert (GateFailed("no").what, GateFailed("no").try_) == ("no", "")
