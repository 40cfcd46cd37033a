"""What is measured and marked, never how long it takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import latency
from benchmarks.latency import main, measure, table
from benchmarks.measurement import Measurement, read
from benchmarks.rounds import Rule
from benchmarks.worker import MeasuringWorker
from runtime.artifact import json_path
from runtime.errors import Incomplete, UserError
from tests import tiny

RULE = Rule(queries=6, seconds=0, rounds=3, quick=True)


@pytest.fixture(scope="module")
def rows(engine: Path) -> list[Measurement]:
    return measure([(engine, None)], [1, 2], RULE)


def test_every_artifact_and_thread_count_gets_a_row_with_the_samples_that_the_rule_asks_for(
        rows: list[Measurement]) -> None:
    assert [entry.label for entry in rows] == ["tiny 32x48 fp32 onnx 1 thread", "tiny 32x48 fp32 onnx 2 threads"]
    assert all(entry.samples == 6 and len(entry.details["rounds_ms"]) == 3 for entry in rows)
    assert all(entry.quick for entry in rows)


def test_percentiles_are_ordered_and_nothing_is_clipped(rows: list[Measurement]) -> None:
    for v in (entry.values for entry in rows):
        assert v["min_ms"] <= v["p50_low_ms"] <= v["p50_ms"] <= v["p50_high_ms"] <= v["max_ms"]
        assert v["p50_ms"] <= v["p90_ms"] <= v["p99_ms"] <= v["max_ms"]
        assert v["min_ms"] <= v["mean_ms"] <= v["max_ms"]


def test_row_tells_what_it_costs_to_start_and_to_keep(rows: list[Measurement], engine: Path) -> None:
    for v in (entry.values for entry in rows):
        assert v["cold_start_ms"] > v["load_ms"] > 0
        assert v["first_ms"] > 0
        assert v["processor_ms"] > 0
        assert v["peak_mb"] > v["before_mb"] > 0
        assert v["model_mb"] == pytest.approx(engine.stat().st_size / 1e6)


def test_stages_are_those_of_the_runtime(rows: list[Measurement]) -> None:
    assert list(rows[0].details["stages_ms"]) == ["preprocess", "inference", "mask"]


def test_ratio_between_two_in_one_run_has_an_interval(rows: list[Measurement]) -> None:
    assert rows[0].details["ratios"] == {}
    ratio, low, high = rows[1].details["ratios"]["tiny 32x48 fp32 onnx 1 thread"]
    assert 0 < low <= ratio <= high
    assert "times as long as tiny 32x48 fp32 onnx 1 thread" in table(rows)


def test_busy_machine_makes_the_row_invalid_and_the_table_says_so(
        engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = MeasuringWorker.ask

    def busy(worker: MeasuringWorker, **request: Any) -> dict[str, Any]:
        answer = ask(worker, **request)
        if "before" in answer:  # all cores were busy all the time, hardly with our work
            answer["before"] |= {"seconds": 0.0, "busy": 0.0, "stolen": 0.0}
            answer["after"] |= {"seconds": 10.0, "busy": 10.0 * worker.opened["machine"]["cores"], "stolen": 0.0}
        return answer

    monkeypatch.setattr(MeasuringWorker, "ask", busy)
    entry, = measure([(engine, None)], rule=RULE)
    assert len(entry.invalid) >= 1
    assert "the machine was busy" in entry.invalid[0]
    assert f"INVALID {entry.label}" in table([entry])


def test_quick_rows_say_so_wherever_they_are_shown(rows: list[Measurement]) -> None:
    assert "QUICK, an indication and no result" in table(rows)


def test_rows_are_kept_and_name_their_command(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(latency, "QUICK", RULE)
    assert main([str(engine), "--quick", "--rows", str(tmp_path / "rows.jsonl")]) == 0
    entry, = read(tmp_path / "rows.jsonl")
    assert entry.kind == "latency"
    assert entry.sha256
    assert entry.machine["cpu"]
    assert "p50 ms" in capsys.readouterr().out


def test_damaged_artifact_is_named_before_anything_is_measured(
        engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / engine.name
    broken.write_bytes(engine.read_bytes()[:100])
    shutil.copy(json_path(engine), tmp_path)
    assert main([str(engine), str(broken)]) == 2
    assert "cut short" in capsys.readouterr().err


def test_artifact_that_cannot_run_here_is_an_error_with_the_engines_reason(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        MeasuringWorker(tmp_path / "missing.onnx", None, None, None)


def test_process_that_dies_is_an_error_and_not_a_missing_row(engine: Path) -> None:
    with MeasuringWorker(engine, 1, None, None) as worker:
        worker._process.kill()
        with pytest.raises(Incomplete, match="ended with code -9"):
            worker.ask(warm=True)


def test_peak_memory_is_the_workers_own_and_not_its_parents(engine: Path) -> None:
    ballast = np.ones(1_000_000_000, np.uint8)
    with MeasuringWorker(engine, 1, None, None) as worker:
        assert worker.ask(queries=1, seconds=0)["peak_mb"] < 0.7 * len(ballast) / 1e6


def test_frames_of_ones_own_are_used(engine: Path, tmp_path: Path) -> None:
    for number in range(2):
        tiny.picture(tmp_path / f"{number}.png")
    with MeasuringWorker(engine, 1, None, tmp_path) as worker:
        assert worker.opened["frames"] == 2


@pytest.mark.parametrize("text", ["0", "", "1,x", "2,-1"])
def test_thread_counts_that_make_no_sense_are_the_users_mistake(text: str) -> None:
    assert main(["x.onnx", "--threads", text]) == 2
