"""Quantisers that are not ours: from the same frames, into artifacts like ours, told apart by their names."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from benchmarks import int8, sweep
from benchmarks.int8 import OTHERS, duels, made, main
from benchmarks.measurement import row
from benchmarks.page.candidates import joined
from benchmarks.plan import Sweep, SweepItem
from calibration.data.coverage import choose
from calibration.data.frames import drawn_frame
from runtime.artifact import open_artifact
from runtime.segmenter import Segmenter
from tests.benchmarks import rows

TINY = SweepItem("tiny", (32, 48), "onnx", "int8", None, "onnxruntime")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few images as calibration takes."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(32):
        cv2.imwrite(str(folder / f"{number}.png"), drawn_frame((32, 48), number))
    return folder


@pytest.fixture
def plan(frames: Path, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep that finds the float artifact exported already."""
    monkeypatch.setattr(sweep, "exported", lambda candidate, plan, say: engine)
    return Sweep(frames, frames, tmp_path, (1,), {"onnx": ("onnx",)}, True, None)


def agreement(a: Path, b: Path) -> float:
    """Share of pixels on which two artifacts agree, over a few frames."""
    with Segmenter.open(a) as one, Segmenter.open(b) as other:
        return float(np.mean([np.mean(one(frame).mask == other(frame).mask)
                              for frame in (drawn_frame((32, 48), i) for i in range(4))]))


def test_onnx_runtimes_own_quantiser_writes_an_artifact_like_ours(plan: Sweep, engine: Path) -> None:
    said: list[str] = []
    path = made(TINY, plan, said.append)
    artifact, _ = open_artifact(path)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert path.name == "tiny-32x48-int8-onnxruntime.onnx"
    assert kinds.count("QuantizeLinear") > 3
    assert agreement(path, engine) > 0.8
    assert artifact.calibration["frames"] == 32
    assert row("latency", artifact, {}, samples=1, machine={}).label == "tiny 32x48 int8-onnxruntime onnx"
    assert said == ["tiny 32x48 int8-onnxruntime onnx: 32 calibration frames"]


@pytest.mark.slow
def test_nncf_writes_an_artifact_like_ours(plan: Sweep, engine: Path) -> None:
    pytest.importorskip("nncf", reason="a development dependency")
    path = made(replace(TINY, form="nncf"), plan, lambda line: None)
    assert "nncf" in open_artifact(path)[0].tools
    assert agreement(path, engine) > 0.8


def test_a_file_is_made_once_as_long_as_network_frames_and_tools_are_the_same(
        plan: Sweep, engine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int] = []

    def quantised(artifact: object, path: Path, chosen: object) -> onnx.ModelProto:
        seen.append(1)
        return onnx.load(path)

    monkeypatch.setitem(OTHERS, "onnxruntime", quantised)
    assert made(TINY, plan, print) == made(TINY, plan, print)
    assert len(seen) == 1
    fewer = tmp_path / "others"
    fewer.mkdir()
    for number in range(32):
        cv2.imwrite(str(fewer / f"{number}.png"), drawn_frame((32, 48), 100 + number))
    made(TINY, replace(plan, calibration=fewer), print)
    assert len(seen) == 2


def test_all_quantisers_are_given_the_frames_that_ours_chooses(plan: Sweep, engine: Path) -> None:
    artifact, _ = open_artifact(engine)
    chosen = choose(plan.calibration, 64, artifact.preprocess)
    assert open_artifact(made(TINY, plan, print))[0].calibration["fingerprint"] == chosen.fingerprint


def test_a_duel_is_between_the_fastest_of_ours_and_each_other_on_one_engine() -> None:
    found = []
    for form, p50, lost in (("", 12.0, 0.2), ("openvino", 10.0, 0.4), ("nncf", 20.0, 0.1)):
        for entry in (rows.latency("net", "int8", p50), rows.accuracy("net", "int8", 0.6)):
            values = {**entry.values, "agreement": 0.99 - lost / 100, "drop_points": lost}
            found.append(replace(entry, engine="x", sha256=rows.sha256("net", form), values=values,
                                 details={**entry.details, **({"form": form} if form else {})}))
    line, = duels(joined(found))
    assert line == ("int8-openvino x takes 0.50 [0.50, 0.50] times as long as int8-nncf x, loses +0.40 points against "
                    "+0.10, keeps 98.60 % of pixels against 98.90 %")


def test_a_quantiser_that_is_not_installed_is_named_with_the_command_that_wants_it(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert main(["lraspp-small", "--data", "x", "--against", "onnxruntime,nncf"]) == 2
    message = capsys.readouterr().err
    assert "python -m benchmarks int8 --against nncf needs the package 'nncf', which is not installed" in message
    assert "edgeseg[dev]" in message


def test_a_quantiser_that_nobody_knows_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lraspp-small", "--data", "x", "--against", "ncnf"]) == 2
    assert "'ncnf' is no quantiser; expected some of nncf, onnxruntime" in capsys.readouterr().err


def test_a_table_stands_each_file_against_float32_on_the_same_engine(plan: Sweep) -> None:
    found = [entry for engine, p50 in (("onnx", 20.0), ("openvino", 10.0))
             for precision, factor in (("fp32", 1), ("int8", 2))
             for entry in (rows.latency("net", precision, factor * p50, engine=engine),
                           rows.accuracy("net", precision, 0.6, engine=engine))]
    lines = int8.summary(plan, joined(found), [], None, 1.0).splitlines()
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["fp32", "onnx"], ["int8", "onnx"], ["fp32", "openvino"], ["int8", "openvino"]]
    assert [line.count("2.00 [2.00, 2.00]") for line in lines[1:5]] == [0, 1, 0, 1]
