"""What the tests share: where the data is, tiny networks, and the weights to work with."""

from __future__ import annotations

import ast
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from runtime.board import Board
from tests import boards

ROOT = Path(__file__).parent.parent
PACKAGES = ("runtime", "calibration", "export", "benchmarks", "edgeseg")
"""What ships; each may import only itself and those before it."""

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a worker for each core; their threads would only wait


@cache
def tree(path: Path) -> ast.Module:
    """A file of ours, parsed once for all tests of a process that read it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with CamVid and the videos; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EDGESEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set EDGESEG_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _exports_take_their_own_time() -> Iterator[None]:
    """torch reads its 500 ONNX functions anew for every export, half of the time that a tiny network takes; and it
    writes out every graph on its way once its trace has a reader, as pytest is of all that does not propagate."""
    if "torch" not in sys.modules:
        yield
        return
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        patch.setattr(logging.getLogger("torch.__trace"), "propagate", True)
        yield


@pytest.fixture(autouse=True)
def _sigint_interrupts() -> None:
    """A shell that starts us in the background ignores SIGINT, and every process that a test interrupts would too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the board that a shell stands in for; `boards.HERE` is its address."""
    return boards.stand_in(tmp_path, monkeypatch)


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board behind a real sshd."""
    with boards.sshd(tmp_path, monkeypatch) as board:
        yield board
