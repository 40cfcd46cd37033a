"""A sweep on a Ray cluster: artifacts are made anywhere, and measured on one whole node of each kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from benchmarks.measurement import Measurement, read
from benchmarks.nodes import unknown
from benchmarks.sweep import main
from calibration.data.frames import drawn_frame
from tests.benchmarks.rows import latency


def asked(row: Measurement) -> tuple[str, str]:
    return row.kind, row.machine.get("board", "")


@pytest.fixture
def data(tmp_path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for i in range(3):
        frame = drawn_frame((64, 96), i)
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{i}.png"), frame)
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{i}.png"), frame[..., 0] // 24)
    return tmp_path / "data"


def test_a_row_is_known_again_whichever_node_tells_it():
    row = latency(machine={"cpu": "c", "board": "pi5", "node": "a/1"})
    named = replace(row, machine={**row.machine, "node": "b/2"})
    other = replace(named, at="2026-01-02T00:00:00+00:00")
    assert unknown([named, other], [row]) == [other]


@pytest.mark.slow
def test_rows_come_from_a_node_of_each_kind_and_name_it(tmp_path, data, monkeypatch, capsys):
    pytest.importorskip("ray")
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
        again = read(tmp_path / "out" / "rows.jsonl")
    finally:
        nodes.shutdown()
    assert again[:len(rows)] == rows
    assert {asked(row) for row in again[len(rows):]} <= {asked(row) for row in rows if row.invalid}
    measured = {(row.kind, row.machine["board"]) for row in rows if row.machine}
    assert {(what, kind) for what in ("accuracy", "latency") for kind in ("pi5", "pi4")} <= measured
    assert {row.kind for row in rows}.isdisjoint({"skipped"})
    assert len({row.sha256 for row in rows}) == 1
    assert len({row.machine["node"] for row in rows if row.machine}) == 2
    (overlays, *_) = [row.details["overlays"] for row in rows if row.kind == "accuracy"]
    assert all((tmp_path / "out" / path).is_file() for files in overlays.values() for path in files.values())
