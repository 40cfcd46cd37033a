"""The second engine for `.onnx` files: the same masks, asked for by name and never taken silently."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from runtime import Segmenter, Stream
from runtime.errors import MissingLibrary, UserError
from tests import colours

pytest.importorskip("openvino")


@pytest.mark.parametrize("threads", [None, 1])
def test_openvino_gives_the_mask_that_onnx_runtime_gives(artifact, threads):
    frame = np.random.default_rng(3).integers(0, 256, (48, 144, 3), np.uint8)
    masks = []
    for engine in ("onnx", "openvino"):
        with Segmenter.open(artifact, threads=threads, engine=engine) as segmenter:
            masks.append(segmenter(frame).mask)
            assert type(segmenter._session).__name__.lower() == f"{engine}session"
    assert np.array_equal(*masks)


def test_streams_and_the_command_run_it_when_it_is_asked_for(artifact, command, tmp_path):
    with Stream(artifact, [colours.numbered(n) for n in range(4)], engine="openvino", workers=2) as stream:
        assert [colours.number_of(result.mask) for result in stream] == [0, 1, 2, 3]
    raw = colours.numbered(7).tobytes()
    done = subprocess.run([sys.executable, "-m", "runtime", str(artifact), "--source", "-", "--size", "16x48",
                           "--engine", "openvino", "--masks", str(tmp_path / "masks")],
                          input=raw, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").iterdir())) == 1


@pytest.mark.parametrize("engine", ["trt", "nothing"])
def test_an_engine_that_does_not_read_the_file_is_refused_with_those_that_do(artifact, engine):
    with pytest.raises(UserError, match=rf"--engine {engine} does not read .*\.onnx; expected onnx or openvino"):
        Segmenter.open(artifact, engine=engine)


def test_a_machine_without_openvino_is_told_what_to_install(artifact, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'edgeseg\[openvino\]'"):
        Segmenter.open(artifact, engine="openvino")


def test_a_file_that_openvino_cannot_read_is_the_users_mistake(tmp_path):
    from runtime.sessions.openvino import OpenvinoSession

    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"OpenVINO .* cannot load .*x\.onnx"):
        OpenvinoSession(tmp_path / "x.onnx")


def test_a_signal_after_two_sessions_came_and_went_reaches_python(artifact):
    code = ("import signal, sys, pathlib\n"
            "from runtime.sessions.openvino import OpenvinoSession\n"
            "first, second = (OpenvinoSession(pathlib.Path(sys.argv[1])) for _ in range(2))\n"
            "first.close()\n"
            "second.close()\n"
            "signal.signal(signal.SIGINT, lambda *_: print('heard'))\n"
            "signal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run([sys.executable, "-c", code, str(artifact)], capture_output=True, text=True, timeout=120,
                          check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n")
