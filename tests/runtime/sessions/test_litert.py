"""The session for .tflite files: on a board it needs the interpreter alone, and streams and tuning take it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from calibration.data.frames import drawn_frame
from runtime import Segmenter, Stream, tune
from runtime.artifact import open_artifact
from runtime.errors import MissingLibrary, UserError
from runtime.sessions.litert import LitertSession
from tests import lite

pytest.importorskip("ai_edge_litert")


def test_it_opens_without_torch_or_the_converter(tmp_path, monkeypatch):
    path = lite.artifact(tmp_path, monkeypatch)
    code = ("import sys, numpy as np\nfrom runtime import Segmenter\n"
            "with Segmenter.open(sys.argv[1]) as segmenter:\n"
            "    print(segmenter(np.zeros((32, 48, 3), np.uint8)).mask.shape)\n"
            "print(sorted({'torch', 'tensorflow', 'jax', 'litert_torch', 'onnxruntime'} & set(sys.modules)))\n")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120,
                          check=True)
    assert done.stdout.splitlines() == ["(32, 48)", "[]"]


def test_streams_and_tuning_take_it_as_they_take_onnx(tmp_path, monkeypatch):
    path = lite.artifact(tmp_path, monkeypatch)
    frames = [drawn_frame((32, 48), index) for index in range(4)]
    with Segmenter.open(path, threads=1) as segmenter:
        alone = [segmenter(frame).mask for frame in frames]
    with Stream(path, frames, workers=2) as stream:
        assert all(np.array_equal(result.mask, mask) for result, mask in zip(stream, alone, strict=True))
    setting = tune.Setting(1, 1)
    assert tune.tune(*open_artifact(path), settings=[setting], rate=lambda *_: 25.0).every == setting


def test_results_outlive_the_next_frame(tmp_path, monkeypatch):
    session = LitertSession(lite.artifact(tmp_path, monkeypatch), threads=1)
    first = session.run(drawn_frame((32, 48), 0)[None])
    kept = first.copy()
    session.run(drawn_frame((32, 48), 9)[None])
    np.testing.assert_array_equal(first, kept)
    session.close()
    session.close()


def test_a_file_that_is_none_is_the_users_mistake(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"nothing at all, and a little more")
    with pytest.raises(UserError, match=r"LiteRT cannot load .*x\.tflite"):
        LitertSession(tmp_path / "x.tflite")


def test_a_machine_without_litert_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'edgeseg\[litert\]'"):
        LitertSession(tmp_path / "x.tflite")
