"""Ctrl-C and SIGTERM at every point of the work, not only at the kind ones."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from itertools import count, takewhile
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from runtime.__main__ import main
from runtime.errors import Stopped
from runtime.signals import ENDINGS, Held, stoppable
from tests.colours import clip
from tests.runtime.test_main import masks_in
from tests.runtime.test_video import frames_in


class Strike:
    """A trace function that sends this process SIGTERM at the `step`-th line of our own code in this thread."""

    def __init__(self, step: int) -> None:
        self.left, self.where = step, ("", 0)
        gc.collect()  # what an earlier strike left: Python swallows what is raised while it tidies up
        gc.freeze()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Strike | None:
        name = frame.f_code.co_filename
        if f"{os.sep}runtime{os.sep}" not in name and "contextlib" not in name:
            return None
        if event == "line" and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            self.left -= 1
            if self.left == 0:
                self.where = (name, frame.f_lineno)
                signal.raise_signal(signal.SIGTERM)
        return self


def struck(step: int, artifact: Path, folder: Path) -> bool:
    """Run the command over three frames with a signal at a line; whether it had not ended before that."""
    folder.mkdir()
    source = clip(folder.parent / "in.avi", 3)
    strike = Strike(step)
    before = [signal.getsignal(number) for number in ENDINGS]
    tracing = sys.gettrace()
    sys.settrace(strike)
    try:
        code = main([str(artifact), "--source", str(source), "--save", str(folder / "out.mp4"), "--masks",
                     str(folder / "masks"), "--stats", str(folder / "stats.json")])
    finally:
        sys.settrace(tracing)
        for number, handler in zip(ENDINGS, before):
            signal.signal(number, handler)
    in_time = strike.left <= 0
    left = {path.name for path in folder.iterdir()}
    written = masks_in(folder / "masks") if "masks" in left else []
    assert written == list(range(len(written)))
    done = len(written) == 3  # a signal may come when there is nothing left to end
    assert code == 143 or (code == 0 and done), strike.where
    assert left - {"masks"} == ({"out.mp4", "stats.json"} if written else set()), strike.where
    if written:
        assert frames_in(folder / "out.mp4") == len(written)
        assert json.loads((folder / "stats.json").read_text())["frames"] == len(written)
    return in_time


def test_a_signal_at_any_line_leaves_the_frames_so_far_in_every_output_and_nothing_unfinished(artifact, tmp_path):
    steps = count(1, 79)
    assert all(struck(step, artifact, tmp_path / str(step)) for step in takewhile(lambda n: n < 800, steps))


@pytest.mark.slow
def test_a_signal_at_every_line_does_so_too(artifact, tmp_path):
    assert sum(takewhile(bool, (struck(step, artifact, tmp_path / str(step)) for step in count(1)))) > 800


def test_several_signals_are_one_and_the_work_ends_in_peace():
    done = []

    def work() -> None:
        with stoppable():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)
                done.append("tidied up")

    with pytest.raises(Stopped) as stopped:
        work()
    assert (done, stopped.value.exit_code) == (["tidied up"], 143)


def test_an_error_that_a_library_makes_of_the_signal_is_still_the_signal():
    def work() -> None:
        with stoppable():
            try:
                signal.raise_signal(signal.SIGTERM)
            except Stopped as error:
                raise ImportError("numpy failed to load") from error

    with pytest.raises(Stopped) as stopped:
        work()
    assert stopped.value.exit_code == 143


def test_a_signal_that_is_held_comes_at_the_end_of_the_block_or_where_it_is_lifted():
    done = []

    def work() -> None:
        with stoppable(), Held() as hold:
            signal.raise_signal(signal.SIGINT)
            done.append(bool(hold))
            with hold.lifted():
                done.append("never")

    with pytest.raises(Stopped) as stopped:
        work()
    assert (done, stopped.value.exit_code) == ([True], 130)


def test_programs_not_of_ours_keep_their_own_handlers():
    before = [signal.getsignal(number) for number in ENDINGS]

    def work() -> None:
        with Held() as hold:
            with hold.lifted():
                assert [signal.getsignal(number) for number in ENDINGS] == before
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    with stoppable():
        pass
    assert [signal.getsignal(number) for number in ENDINGS] == before


def test_what_a_parent_process_ignores_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_of_the_main_thread_nothing_is_touched():
    def work() -> None:
        with stoppable(), Held() as hold, hold.lifted():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
