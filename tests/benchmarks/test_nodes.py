"""A sweep on a Ray cluster: artifacts are made anywhere, and measured on one whole node of each kind."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from benchmarks.measurement import read
from benchmarks.sweep import main
from calibration.data.frames import drawn_frame

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i in range(3):
        frame = drawn_frame((64, 96), i)
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{i}.png"), frame)
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{i}.png"), frame[..., 0] // 24)
    return tmp_path / "data"


def test_rows_come_from_a_node_of_each_kind_and_name_it(tmp_path, data, monkeypatch, capsys):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for kind in ("pi5", "pi4"):
        nodes.add_node(num_cpus=1, labels={"edgeseg-kind": kind})
    words = ["--models", "lraspp-small", "--sizes", "64x96", "--precisions", "fp32", "--quick", "--data", str(data),
             "--out", str(tmp_path / "out"), "--ray", nodes.address, "--nodes"]
    try:
        assert main([*words, "pi3"]) == 2
        assert "no node of the cluster is of the kind 'pi3'" in capsys.readouterr().err
        assert main([*words, "pi5,pi4"]) == 0
        rows = read(tmp_path / "out" / "rows.jsonl")
        assert main([*words, "pi5,pi4"]) == 0
        assert read(tmp_path / "out" / "rows.jsonl") == rows  # nothing is measured twice
    finally:
        nodes.shutdown()
    measured = {(row.kind, row.machine["board"]) for row in rows if row.machine}
    assert {(what, kind) for what in ("accuracy", "latency") for kind in ("pi5", "pi4")} <= measured
    assert {row.kind for row in rows}.isdisjoint({"skipped"})
    assert len({row.sha256 for row in rows}) == 1
    assert len({row.machine["node"] for row in rows if row.machine}) == 2
    (overlays, *_) = [row.details["overlays"] for row in rows if row.kind == "accuracy"]
    assert all((tmp_path / "out" / path).is_file() for files in overlays.values() for path in files.values())
