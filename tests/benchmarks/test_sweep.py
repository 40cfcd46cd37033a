from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import complexity, roofline, rounds, steps, sweep
from benchmarks.measurement import Measurement, read, row, to_line
from benchmarks.original import Evaluation, Original, evaluation
from benchmarks.page.candidates import joined, skipped
from benchmarks.plan import Sweep, SweepItem, candidates, engines_by_target
from benchmarks.rounds import Rule, Timings
from benchmarks.sweep import main, run
from calibration.data.frames import drawn_frame
from calibration.data.labels import LabelMap, Pair
from export.build import build
from export.target import Job
from runtime.artifact import Artifact, open_artifact, size_mb
from runtime.errors import Incomplete, UserError
from runtime.forms import PORTABLE
from runtime.segmenter import Segmenter
from runtime.sessions import engines
from tests import tiny

TINY = SweepItem("tiny", (32, 48), "onnx", "fp32", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn frames whose labels are the sky above and the road below."""
    folder = tmp_path_factory.mktemp("data")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    label = np.zeros((40, 60), np.uint8)
    label[20:] = 3
    for number in range(4):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), drawn_frame((40, 60), number))
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), label)
    return folder


KINDS = [("complexity", ""), ("layers", "onnx"), ("accuracy", "onnx"), ("accuracy", "openvino"),
         ("latency", "onnx"), ("latency", "openvino")]
"""The rows of one artifact with two engines."""


@pytest.fixture(scope="module")
def profile(engine: Path) -> Measurement:
    """Measured once, as the ceilings take seconds."""
    return replace(roofline.measure(engine, 1, 4), invalid=())


@pytest.fixture
def plan(data: Path, engine: Path, profile: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep that finds the tiny artifact exported already, and measures little."""
    def exported(candidate: SweepItem, plan: Sweep, say: object) -> Path:
        if candidate.name == "tiny":
            return engine
        raise UserError(f"{candidate.name} has no bundled weights")

    def network(original: Original, artifact: Artifact, pairs: list[Pair], mapping: LabelMap) -> Evaluation:
        with Segmenter.open(engine) as segmenter:
            return evaluation(segmenter, pairs, mapping)

    monkeypatch.setattr(sweep, "exported", exported)
    monkeypatch.setattr(Original, "evaluation", network)
    monkeypatch.setattr(steps, "Remote", lambda path, on, engine: Segmenter.open(path, engine=engine))  # in a moment
    monkeypatch.setattr(Timings, "complaints", lambda timed: ())  # as on an idle machine
    monkeypatch.setattr(rounds, "QUICK", Rule(4, 0, 2, quick=True))
    monkeypatch.setattr(roofline, "measure", lambda path, threads, runs: profile)
    return Sweep(data, None, tmp_path, (1,), {"onnx": ("onnx", "openvino"), "coreml": ()}, True, 3)


def silent(line: str) -> None:
    """Say nothing."""


def test_speed_accuracy_and_counts_come_from_the_same_artifact(plan: Sweep) -> None:
    run(plan, [TINY], silent)
    found = read(plan.rows)
    assert [(entry.kind, entry.engine) for entry in found] == KINDS
    assert len({entry.sha256 for entry in found}) == 1
    accuracy = found[2]
    assert accuracy.samples == 3
    assert accuracy.invalid == ("the weights are random",)
    assert 0 <= accuracy.values["miou_low"] <= accuracy.values["miou"] <= accuracy.values["miou_high"] <= 1
    shown = accuracy.details["overlays"]
    assert len(shown) == 3
    assert all((plan.out / file).is_file() for files in shown.values() for file in files.values())


def test_second_run_measures_nothing_again(plan: Sweep) -> None:
    run(plan, [TINY], silent)
    before = plan.rows.read_text(encoding="utf-8")
    run(plan, [TINY], silent)
    assert plan.rows.read_text(encoding="utf-8") == before


def test_accuracy_on_more_frames_than_the_row_has_is_measured_again(plan: Sweep) -> None:
    run(plan, [TINY], silent)
    run(replace(plan, max_frames=None), [TINY], silent)
    found = [(entry.kind, entry.samples) for entry in read(plan.rows) if entry.kind in ("accuracy", "latency")]
    assert [samples for kind, samples in found if kind == "accuracy"] == [3, 3, 4, 4]
    assert [kind for kind, _ in found].count("latency") == 2


def test_what_a_busy_machine_made_invalid_is_measured_again(plan: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as busy:
        busy.setattr(Timings, "complaints", lambda timed: ("the machine was busy",))
        run(plan, [TINY], silent)
    run(plan, [TINY], silent)
    found = [(entry.engine, bool(entry.invalid)) for entry in read(plan.rows) if entry.kind == "latency"]
    assert found == [("onnx", True), ("openvino", True), ("onnx", False), ("openvino", False)]


def test_run_after_a_kill_measures_what_is_missing(plan: Sweep) -> None:
    run(plan, [TINY], silent)
    complexity, layers, *_ = read(plan.rows)
    plan.rows.write_text(to_line(complexity) + "\n" + to_line(layers)[:99], encoding="utf-8")
    run(plan, [TINY], silent)
    assert [(entry.kind, entry.engine) for entry in read(plan.rows)] == KINDS


def test_what_stands_in_one_table_is_measured_in_one_run_even_where_one_row_alone_is_missing(plan: Sweep) -> None:
    run(replace(plan, engines={"onnx": ("onnx",)}), [TINY], silent)
    assert run(replace(plan, together=True), [TINY], silent) == [
        (open_artifact(path)[1], engine) for path, engine in run(plan, [TINY], silent)]
    found = [(entry.engine, entry.details["run"]) for entry in read(plan.rows) if entry.kind == "latency"]
    assert [engine for engine, _ in found] == ["onnx", "onnx", "openvino"]
    assert found[0][1] != found[1][1] == found[2][1]


def test_pixels_kept_and_points_lost_are_those_against_the_network_in_torch(plan: Sweep) -> None:
    run(plan, [TINY], silent)
    accuracy = next(entry for entry in read(plan.rows) if entry.kind == "accuracy" and entry.engine == "onnx")
    assert accuracy.values["agreement"] == 1  # the same file in the same engine stands for the network here
    assert [accuracy.values[f"drop_{which}points"] for which in ("", "low_", "high_")] == [0, 0, 0]


def test_an_engine_that_refuses_the_file_or_ends_by_it_is_skipped_and_the_others_are_measured(
        plan: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (UserError("GridSample is unknown to it"), Incomplete("the process ended with code -11")):
        def opened(path: Path, on: None, engine: str, error: Exception = error) -> Segmenter:
            if engine == "openvino":
                raise error
            return Segmenter.open(path, engine=engine)

        monkeypatch.setattr(steps, "Remote", opened)
        plan.rows.unlink(missing_ok=True)
        run(plan, [TINY], silent)
        assert [(entry.engine, entry.details["reason"]) for entry in read(plan.rows) if entry.kind == "skipped"] == [
            ("openvino", str(error))]
        assert [entry.engine for entry in read(plan.rows) if entry.kind == "latency"] == ["onnx"]


def test_what_cannot_run_here_is_skipped_with_its_reason_and_the_rest_goes_on(plan: Sweep) -> None:
    said: list[str] = []
    run(plan, [SweepItem("absent", (32, 48), "onnx", "fp32", None), TINY], said.append)
    first, *others = read(plan.rows)
    assert first.kind == "skipped"
    assert first.details["reason"] == "absent has no bundled weights"
    assert len(others) == len(KINDS)
    assert "absent 32x48 fp32 onnx: skipped: absent has no bundled weights" in said


def test_a_precision_that_a_target_lacks_is_told_and_not_replaced(plan: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(UserError, match="ONNX has no palette4; expected fp32, fp16, int8"):
        sweep.exported(replace(TINY, precision="palette4"), plan, silent)


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that nothing but a Mac runs."""
    pytest.importorskip("coremltools")
    return build("coreml", Job(tiny.request(), tmp_path_factory.mktemp("package")))


def test_what_no_engine_runs_here_is_evaluated_by_its_reference_and_noted_as_not_executed(
        plan: Sweep, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "exported", lambda candidate, plan, say: package)
    monkeypatch.setattr(complexity, "measured", lambda subject, size: (row(
        "complexity", open_artifact(subject)[0], {}, samples=1, machine={}), None))
    run(plan, [replace(TINY, target="coreml")], silent)
    counts, built, accuracy = read(plan.rows)
    assert (built.kind, built.engine, built.details["judged"]) == ("built", "", "evaluated")
    assert built.values == {"model_mb": size_mb(package)}
    assert (accuracy.kind, accuracy.engine, accuracy.target) == ("accuracy", "reference", "coreml")
    assert counts.kind == "complexity"


def test_an_engine_that_cannot_run_here_is_skipped_with_its_reason_and_not_forgotten(plan: Sweep) -> None:
    run(replace(plan, unable={"openvino-bf16": "no bfloat16"}), [TINY], silent)
    notes = [entry for entry in read(plan.rows) if entry.kind == "skipped"]
    assert [(entry.engine, entry.label, entry.details["reason"]) for entry in notes] == [
        ("openvino-bf16", "tiny 32x48 fp32 openvino-bf16", "no bfloat16")]
    assert skipped(read(plan.rows), joined(read(plan.rows))) == notes


def test_targets_and_engines_are_told_apart_by_their_names() -> None:
    assert engines_by_target("onnx,openvino") == {"onnx": ("onnx", "openvino")}
    assert engines_by_target("openvino,openvino-bf16") == {"onnx": ("openvino", "openvino-bf16")}
    if engines()["coreml"].hindrance():
        assert engines_by_target("coreml") == {"coreml": ()}


def test_without_a_size_each_network_has_its_own() -> None:
    assert [sweep._own_size(name) for name in ("lraspp-small", "dfanet-a")] == [(360, 480), (360, 480)]
    assert sweep._own_size("espnetv2") == (384, 384)


def test_int8_is_wanted_in_the_portable_form_and_in_that_of_each_engine_that_has_its_own() -> None:
    own = [name for name in ("onnx", "openvino", "openvino-bf16") if engines()[name].form != PORTABLE]
    found = candidates(["a"], [(8, 8)], {"onnx": ("onnx", "openvino", "openvino-bf16")}, ["fp32", "int8"], [])
    assert [(c.precision, c.form) for c in found] == [("fp32", ""), ("int8", ""), *(("int8", name) for name in own)]
    assert {c.form for c in candidates(["a"], [(8, 8)], {"litert": ("litert",)}, ["int8"], [])} == {""}


def test_weights_are_named_for_one_network_or_for_all_others() -> None:
    found = candidates(["a", "b"], [(8, 8)], {"onnx": ("onnx",)}, ["fp32", "fp16"], ["a=x.pth", "none"])
    assert [(c.name, c.precision, c.weights) for c in found] == [
        ("a", "fp32", "x.pth"), ("a", "fp16", "x.pth"), ("b", "fp32", "none"), ("b", "fp16", "none")]


@pytest.mark.parametrize(("flag", "value"), [("--sizes", "big"), ("--precisions", "fp64"), ("--threads", "0"),
                                                ("--engines", "onnx,openvno"), ("--targets", "onxx")])
def test_flags_that_make_no_sense_are_the_users_mistake(flag: str, value: str) -> None:
    assert main(["--models", "lraspp", "--sizes", "8x8", "--data", ".", flag, value]) == 2


def test_unknown_network_is_named_before_any_work(data: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["--models", "lrasp", "--sizes", "8x8", "--data", str(data), "--out", str(out)]) == 2
    assert "lraspp" in capsys.readouterr().err
    assert not out.exists()
