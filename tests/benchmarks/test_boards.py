"""Benchmarks on a board: its rows name it, and a connection that is lost loses none."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks import accuracy, latency, pipeline, report, rounds, sweep
from benchmarks import worker as worker_module
from benchmarks.measurement import read
from benchmarks.original import Original, evaluation
from benchmarks.page.candidates import joined
from benchmarks.plan import Sweep, SweepItem
from benchmarks.remote import Remote
from benchmarks.rounds import Rule, Timings
from benchmarks.worker import MeasuringWorker
from runtime import Segmenter, board, board_files
from runtime.errors import BoardUnusable, Incomplete, UserError
from tests import boards, colours
from tests.arm64.root import interpreter
from tests.boards import HERE


def test_latency_is_measured_there_and_the_row_names_the_board(home, tmp_path, monkeypatch, capsys):
    path = colours.artifact(tmp_path / "artifact")
    monkeypatch.setattr(latency, "QUICK", Rule(queries=4, seconds=0, rounds=2, quick=True))
    rows = tmp_path / "rows.jsonl"
    words = [str(path), "--quick", "--on", "ssh://pi@board", "--python", sys.executable, "--rows", str(rows)]
    assert latency.main(words) == 0, capsys.readouterr().err
    (entry,) = read(rows)
    assert entry.machine["board"] == "pi@board"
    assert entry.machine["cores"] >= 1
    assert (entry.samples, entry.engine) == (4, "onnx")
    assert "cold_start_ms" not in entry.values  # two clocks
    assert entry.values["p50_ms"] > 0
    assert {path.name for path in (home / board.FOLDER).rglob("*.onnx*")} == {path.name, f"{path.name}.json"}


RULE = Rule(queries=4, seconds=0, rounds=4, quick=True)


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Sweep:
    """A sweep over an artifact that is there, on the board."""
    path, data = colours.artifact(tmp_path / "artifact"), tmp_path / "data"
    for part, image in (("images", colours.numbered(5)), ("labels", np.zeros((16, 48), np.uint8))):
        (data / part).mkdir(parents=True)
        cv2.imwrite(str(data / part / "0.png"), image)
    def network(original, artifact, pairs, mapping):
        with Segmenter.open(path) as segmenter:
            return evaluation(segmenter, pairs, mapping)

    monkeypatch.setattr(sweep, "exported", lambda candidate, plan, say: path)
    monkeypatch.setattr(Original, "evaluation", network)
    monkeypatch.setattr(rounds, "QUICK", RULE)
    monkeypatch.setattr(Timings, "complaints", lambda timed: ())  # as on an idle board
    return Sweep(data, None, tmp_path / "out", (1, 2), {"onnx": ("onnx",)}, True, None, HERE)


COLOURS = SweepItem("colours", (16, 48), "onnx", "fp32", None)


def cut(patch: pytest.MonkeyPatch, after: int, end: Callable[[MeasuringWorker], object]) -> list[float]:
    """End the connection by `end` when so many queries were answered; the list gets the time of each."""
    ask, answered = MeasuringWorker.ask, []

    def until(worker: MeasuringWorker, **request):
        if len(answered) == after and "queries" in request:
            end(worker)
        answer = ask(worker, **request)
        answered.extend(answer.get("total_ms", ()))
        return answer

    patch.setattr(MeasuringWorker, "ask", until)
    return answered


def kinds(rows):
    return [(entry.kind, entry.machine.get("board")) for entry in rows]


def test_a_sweep_on_a_board_goes_on_after_the_last_round_before_the_connection_was_cut(home, plan, monkeypatch):
    with monkeypatch.context() as patch:
        # In the third round: each of two contenders has one query in each.
        before = cut(patch, 5, lambda worker: worker._process.kill())
        with pytest.raises(Incomplete, match="ended with code -9"):
            sweep.run(plan, [COLOURS], lambda line: None)
    first = read(plan.rows)
    assert kinds(first) == [("complexity", None), ("accuracy", "pi@board:2222")]
    with monkeypatch.context() as patch:
        after = cut(patch, -1, lambda worker: None)
        sweep.run(plan, [COLOURS], lambda line: None)
    rows = read(plan.rows)
    assert rows[:2] == first
    assert kinds(rows[2:]) == [("latency", "pi@board:2222")] * 2
    assert len(after) == 4  # two rounds of the two contenders
    kept = sorted(ms for entry in rows[2:] for ms in entry.details["rounds_ms"])
    assert kept == sorted([*before[:4], *after])
    assert [entry.details["rounds_of_a_run_that_broke_off"] for entry in rows[2:]] == [2, 2]
    assert [path.name for path in plan.out.iterdir() if path.name.startswith(".")] == []


def test_a_board_beside_this_machine_is_told_apart_and_has_its_own_accuracy(home, plan):
    sweep.run(plan, [COLOURS], lambda line: None)
    rows = read(plan.rows)
    here = replace(rows[2], machine={"cpu": "another"})
    found = joined([*rows, here])
    assert {candidate.machine.split(", ")[0] for candidate in found} == {"pi@board:2222", "another"}
    assert {candidate.miou for candidate in found if "pi@" in candidate.machine} == {rows[1].values["miou"]}


def test_a_board_that_is_gone_ends_a_sweep_and_is_no_reason_to_skip_what_is_left(home, plan, tmp_path):
    boards.script(tmp_path / "bin" / "ssh", "echo 'ssh: connect to host board: Connection refused' >&2; exit 255")
    with pytest.raises(BoardUnusable, match=r"not reached .*refused"):
        sweep.run(plan, [COLOURS, replace(COLOURS, precision="int8")], lambda line: None)
    assert kinds(read(plan.rows)) == [("complexity", None)]


def test_a_board_that_lacks_an_engine_is_told_before_anything_is_exported(home, plan, monkeypatch, capsys):
    monkeypatch.setattr(board_files, "engine_packages", lambda engine: [[f"{engine}-9"]])
    words = ["--models", "lraspp", "--sizes", "8x8", "--data", str(plan.data), "--out", str(plan.out)]
    assert sweep.main([*words, "--on", "ssh://pi@board", "--python", sys.executable]) == 2
    assert "lacks onnx-9" in capsys.readouterr().err
    assert not plan.out.exists()


def test_masks_of_a_board_are_judged_as_ours(home, plan, tmp_path, capsys):
    path = colours.artifact(tmp_path / "artifact")
    words = [str(path), "--data", str(plan.data), "--threads", "1"]
    assert accuracy.main([*words, "--json", str(tmp_path / "here.json")]) == 0
    assert accuracy.main([*words, "--json", str(tmp_path / "there.json"), "--on", "ssh://pi@board", "--python",
                          sys.executable]) == 0
    here, there = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "there"))
    assert there.pop("board") == "pi@board"
    assert here == there


@pytest.mark.slow
def test_a_pipeline_on_a_board_sends_its_row_here(home, tmp_path, capfd):
    path, clip = colours.artifact(tmp_path / "artifact"), colours.clip(tmp_path / "clip.avi", 4)
    words = [str(path), "--source", str(clip), "--frames", "3", "--rounds", "1", "--rows", str(tmp_path / "rows.jsonl")]
    assert pipeline.main([*words, "--on", "ssh://pi@board", "--python", sys.executable]) == 0, capfd.readouterr().err
    (entry,) = read(tmp_path / "rows.jsonl")
    assert (entry.kind, entry.machine["board"], entry.samples) == ("pipeline", "pi@board", 3)
    assert entry.details["source"] == str(clip)
    assert "× engine only" in capfd.readouterr().out
    assert [path.name for path in (home / board.FOLDER).iterdir() if path.name.startswith(".")] == []


def test_masks_of_the_board_are_the_engines_own(home, tmp_path):
    path, frame = colours.artifact(tmp_path), colours.numbered(1234, (33, 97))
    with Remote(path, HERE, "onnx") as there, Segmenter.open(path) as segmenter:
        assert np.array_equal(there(frame).mask, segmenter(frame).mask)


def test_a_connection_that_is_lost_is_told_and_leaves_nothing_running(home, tmp_path):
    path = colours.artifact(tmp_path / "artifact")
    with MeasuringWorker(path, 1, None, None, HERE) as worker:
        worker._process.kill()
        with pytest.raises(Incomplete, match="ended with code -9"):
            worker.ask(queries=1, seconds=0)
    with MeasuringWorker(path, 1, None, None, HERE) as worker:
        worker._line.send(json.dumps({"queries": 1, "seconds": 1000}))  # in the middle of its work
        worker._line.close()  # what sshd does when the connection is gone
        assert worker._process.wait(60) == 0


def test_a_board_that_hears_nothing_more_ends_its_work_by_itself(home, tmp_path, monkeypatch):
    """As after a pulled cable: the pipe stays open, and nobody is there."""
    monkeypatch.setattr(board, "BEAT_S", 1000)
    monkeypatch.setattr(worker_module, "SILENCE_S", 3)
    with MeasuringWorker(colours.artifact(tmp_path / "artifact"), 1, None, None, HERE) as worker:
        worker._line.send(json.dumps({"queries": 1, "seconds": 1000}))
        assert worker._process.wait(60) == -signal.SIGALRM


def test_an_interpreter_without_a_board_is_the_users_mistake(capsys, tmp_path):
    assert latency.main([str(colours.artifact(tmp_path)), "--python", "python3.11"]) == 2
    assert "--python python3.11 goes with --on" in capsys.readouterr().err


@pytest.fixture
def arm64(tmp_path, monkeypatch):
    """The emulated Arm64 machine behind a real sshd."""
    try:
        python = interpreter("cortex-a76")
    except UserError as error:
        pytest.skip(str(error))
    with boards.sshd(tmp_path, monkeypatch, python) as board:
        yield board


@pytest.mark.slow
def test_an_emulated_arm64_board_that_is_cut_off_in_a_sweep_loses_no_row(arm64, plan, tmp_path, monkeypatch):
    """And the report then shows that board beside this machine."""
    swept = replace(plan, on=arm64)
    with monkeypatch.context() as patch:
        cut(patch, 5, lambda worker: boards.cut(tmp_path))
        with pytest.raises(Incomplete, match="the connection to ssh://board was lost"):
            sweep.run(swept, [COLOURS], lambda line: None)
    first = read(plan.rows)
    assert kinds(first) == [("complexity", None), ("accuracy", "board")]
    sweep.run(swept, [COLOURS], lambda line: None)
    sweep.run(replace(plan, on=None), [COLOURS], lambda line: None)
    rows = read(plan.rows)
    assert rows[:2] == first
    there = [entry for entry in rows if entry.kind == "latency" and entry.machine.get("board")]
    assert [entry.details["rounds_of_a_run_that_broke_off"] for entry in there] == [2, 2]
    assert {entry.machine["cpu"] for entry in there} == {"Cortex-A76"}
    assert "asimddp" in there[0].machine["instructions"]
    assert [path.name for path in (tmp_path / "home" / board.FOLDER).iterdir() if path.name.startswith(".")] == []
    assert report.main([str(plan.rows), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "What to ship on each of 2 machines" in page
    assert "<h3>board, Cortex-A76</h3>" in page


@pytest.mark.slow
def test_times_of_an_emulated_board_are_never_taken_for_speed(arm64, tmp_path):
    path, rule = colours.artifact(tmp_path / "artifact"), Rule(queries=2, seconds=0, rounds=1, quick=True)
    (entry,) = latency.measure([(path, None)], rule=rule, on=arm64)
    assert entry.samples == 2
    if "emulated" not in entry.machine:
        pytest.skip("this kernel does not tell its architecture; that came with Linux 6.1")
    assert any("its times are no board's" in reason for reason in entry.invalid)
