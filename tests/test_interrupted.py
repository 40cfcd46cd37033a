"""SIGTERM at random moments of long work: finished work is kept and whole, nothing unfinished and no process is left.

In this process, so that imports take no time; a thread sends the signal. `tests/runtime/test_signals.py` strikes the
runtime at every line.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from calibration.data.frames import drawn_frame
from runtime.artifact import open_artifact
from tests import tiny

Work = Callable[[Path], int]


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """train/ with 33 images and val/ with 4, each with labels."""
    folder = tmp_path_factory.mktemp("data")
    for part, count in (("train", 33), ("val", 4)):
        for kind in ("images", "labels"):
            (folder / part / kind).mkdir(parents=True)
        for i in range(count):
            frame = drawn_frame((64, 96), 3 * i + len(part))
            assert cv2.imwrite(str(folder / part / "images" / f"{i:02}.png"), frame)
            assert cv2.imwrite(str(folder / part / "labels" / f"{i:02}.png"), frame[..., 0] // 24)
    return folder


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return tiny.artifact(tmp_path_factory.mktemp("float"))


def calibration(engine, camvid) -> Work:
    from calibration.__main__ import main

    return lambda out: main([str(engine), "--data", str(camvid), "--frames", "32", "--out", str(out)])


def accuracy(engine, camvid) -> Work:
    from benchmarks.accuracy import main

    return lambda out: main([str(engine), "--data", str(camvid / "val"), "--csv", str(out / "a.csv"), "--json",
                             str(out / "a.json"), "--worst", str(out / "worst.png")])


def training(engine, camvid) -> Work:
    from export.training.train import main

    return lambda out: main(["lraspp-small", "--data", str(camvid), "--epochs", "2", "--batch", "8", "--crop", "32x32",
                             "--score-every", "1", "--threads", "1", "--no-compile", "--out", str(out)])


def export(engine, camvid) -> Work:
    from export.onnx.__main__ import main

    return lambda out: main(["lraspp-small", "--size", "64x96", "--out", str(out)])


def sweep(engine, camvid) -> Work:
    from benchmarks.sweep import main

    return lambda out: main(["--models", "lraspp-small", "--sizes", "64x96", "--precisions", "fp32", "--quick",
                             "--data", str(camvid / "val"), "--out", str(out)])


def children() -> set[str]:
    """Numbers of the processes that this one started."""
    return set(" ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split())


def struck(work: Work, out: Path, seconds: float) -> int:
    """The code that `work` ends with when SIGTERM comes after `seconds`."""
    out.mkdir()
    before = children()
    ignored = signal.signal(signal.SIGTERM, lambda *_: None)  # when the work is over before
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        code = work(out)
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGTERM, ignored)
    assert children() <= before
    left = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    assert [name for name in left if ".tmp" in name] == []
    for path in out.rglob("*.onnx"):
        open_artifact(path)  # whole, with its JSON
    return code


def check_after_signals(make, count: int, engine, camvid, tmp_path: Path) -> None:
    """Send `count` signals, each at a random moment of the time that the work takes when it is left alone."""
    work, rng = make(engine, camvid), random.Random(0)
    for name in ("warm", "whole"):  # what is loaded once is loaded by the first
        (tmp_path / name).mkdir()
    assert work(tmp_path / "warm") == 0
    start = time.monotonic()
    assert work(tmp_path / "whole") == 0
    took = time.monotonic() - start
    codes = [struck(work, tmp_path / str(number), rng.uniform(0, took)) for number in range(count)]
    print(f"{make.__name__}: {took:.1f} s, {codes.count(143)} of {count} ended by the signal, "
          f"{codes.count(0)} were done before")
    assert set(codes) <= {0, 143}
    assert 143 in codes


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts child processes through Linux's /proc")


@pytest.mark.parametrize("make", [calibration, accuracy])
def test_three_signals_each(make, engine, camvid, tmp_path):
    check_after_signals(make, 3, engine, camvid, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("make", [calibration, accuracy, training, export, sweep])
def test_fifty_signals_each(make, engine, camvid, tmp_path):
    check_after_signals(make, int(os.environ.get("EDGESEG_SIGNALS", "50")), engine, camvid, tmp_path)
