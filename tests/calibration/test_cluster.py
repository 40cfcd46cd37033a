"""On a cluster, accuracy, ranges and sensitivity are what they are in one process, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.accuracy import main as accuracy
from calibration.__main__ import main as calibration
from calibration.data.frames import drawn_frame
from tests import tiny

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path) -> Path:
    """train/ and val/, with labels."""
    for part, count in (("train", 34), ("val", 20)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
        for i in range(count):
            frame = drawn_frame((64, 96), 3 * i + len(part))
            cv2.imwrite(str(tmp_path / "data" / part / "images" / f"{i:02}.png"), frame)
            cv2.imwrite(str(tmp_path / "data" / part / "labels" / f"{i:02}.png"), frame[..., 0] // 24)
    return tmp_path / "data"


def test_accuracy(tmp_path, data, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    path = tiny.artifact(tmp_path / "engine")
    for name, more in (("one", []), ("many", ["--ray", "local"])):
        assert accuracy([str(path), "--data", str(data / "val"), "--csv", str(tmp_path / f"{name}.csv"),
                         "--json", str(tmp_path / f"{name}.json"), *more]) == 0
    for ending in ("csv", "json"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"many.{ending}").read_bytes()
    assert json.loads((tmp_path / "one.json").read_text())["frames"] == 20


def test_ranges_and_sensitivity(tmp_path, data, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    path = tiny.artifact(tmp_path / "engine")
    for name, more in (("one", []), ("many", ["--ray", "local"])):
        assert calibration([str(path), "--data", str(data), "--frames", "32", "--sensitivity", "--out",
                            str(tmp_path / name), *more]) == 0
    one, many = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("one", "many"))
    assert [path.name for path in one] == [path.name for path in many]
    assert {".npz", ".onnx", ".svg"} <= {path.suffix for path in one}
    for a, b in zip(one, many):
        if a.suffix == ".npz":
            with np.load(a) as ours, np.load(b) as theirs:
                assert all((ours[key] == theirs[key]).all() for key in ours.files)
        else:
            assert a.read_bytes() == b.read_bytes(), a.name
