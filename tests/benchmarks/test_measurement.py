from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.measurement import Measurement, append, read, to_line
from runtime.errors import UserError
from tests.benchmarks import rows

ROW = Measurement("latency", "tiny", "onnx", "fp32", (32, 48), "low", "tiny.onnx", "ab" * 32,
                  {"p50_ms": 1.5, "p90_ms": 2}, 1024, {"cpu": "abacus"}, "python -m benchmarks latency tiny.onnx",
                  "2026-11-21T00:00:00+00:00", invalid=("busy",),
                  details={"threads": 2, "rule": "none", "rounds_ms": [1.5], "stages_ms": {}})


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "rows.jsonl"
    append(path, [ROW])
    append(path, [dataclasses.replace(ROW, name="other")])
    assert read(path) == [ROW, dataclasses.replace(ROW, name="other")]


def test_line_that_a_kill_cut_short_is_left_out_and_spoils_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, [ROW])
    path.write_text(path.read_text() + to_line(ROW)[:40])
    append(path, [ROW])
    assert read(path) == [ROW, ROW]


def test_row_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(json.loads(to_line(ROW)) | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        read(path)


@pytest.mark.parametrize("line", ["[]", "3", "{}", '{"format": 1, "size": [1, 2]}'])
def test_json_that_is_no_row_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match="line 1"):
        read(path)


@pytest.mark.parametrize(("row", "change", "message"), [
    (ROW, {"values": {"p50_ms": 1.5}}, "no figure 'p90_ms'"),
    (ROW, {"values": {"p50_ms": "1.5", "p90_ms": 2}}, "expected int | float, got str"),
    (ROW, {"details": {}}, "the key 'rule' is missing"),
    (ROW, {"size": [0, 48]}, r"size\[0\] is 0"), (ROW, {"quick": 0}, "quick is 0; expected bool"),
    (rows.layers(), {"details": {"layers": [{"ms": 0}], "words": []}}, r"layers\[0\].* is missing"),
    (rows.accuracy(), {"details": {"iou_by_class": {}, "overlays": {"a": {"mask": "../../etc/x", "label": "b"}}}},
     "overlays.*expected str matching"),
    (rows.skipped(), {"details": {"reason": 3}}, "reason is 3; expected str, got int")])
def test_a_row_without_what_the_page_takes_from_it_is_refused(
        tmp_path: Path, row: Measurement, change: dict[str, object], message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(json.loads(to_line(row)) | change))
    with pytest.raises(UserError, match=message):
        read(path)


def test_label_names_what_is_not_the_default() -> None:
    assert ROW.label == "tiny 32x48 fp32 onnx 2 threads"
    assert dataclasses.replace(ROW, output="classes", details={"threads": 1}).label == (
        "tiny 32x48 fp32 onnx classes 1 thread")
    assert dataclasses.replace(ROW, details={}).label == "tiny 32x48 fp32 onnx"
