"""`--qat` on a tiny network: what it leaves, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration import recipe
from calibration.__main__ import main
from calibration.data.frames import drawn_frame
from calibration.judge.lint import main as lint_main
from runtime import cli
from runtime.artifact import open_artifact
from runtime.segmenter import Segmenter
from tests import tiny


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.artifact(tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Path:
    """train/ and val/, labelled with the float network's own masks."""
    folder = tmp_path_factory.mktemp("data")
    with Segmenter.open(engine) as segment:
        for part, count in (("train", 9), ("val", 3)):
            for kind in ("images", "labels"):
                (folder / part / kind).mkdir(parents=True)
            for i in range(count):
                frame = drawn_frame((32, 48), 3 * i + (part == "val"))
                assert cv2.imwrite(str(folder / part / "images" / f"{i}.png"), frame)
                assert cv2.imwrite(str(folder / part / "labels" / f"{i}.png"), segment(frame).mask)
    return folder


def run(engine: Path, data: Path, out: Path, *more: str) -> int:
    return main([str(engine), "--data", str(data), "--allow-few", "--out", str(out), *more])


def test_the_artifact_is_the_same_portable_form_with_other_weights_and_a_record(
        engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(engine, data, tmp_path / "calibrated", "--improve", "equalise") == 0
    assert run(engine, data, tmp_path / "learnt", "--qat", "2") == 0
    text = capsys.readouterr().out
    assert "INT8 before fine-tuning, simulated in float: mIoU" in text
    assert f"2 epochs over {data / 'train'}: mean loss " in text
    (before, first), (after, second) = (open_artifact(tmp_path / name / "tiny-32x48-int8.onnx")
                                        for name in ("calibrated", "learnt"))
    assert first.read_bytes() != second.read_bytes()
    assert lint_main([str(second)]) == 0
    assert before.calibration["fine_tuned"] is None
    assert after.calibration["fine_tuned"]["epochs"] == len(after.calibration["fine_tuned"]["losses"]) == 2
    assert after.calibration["fine_tuned"]["drop_before"] == before.calibration["judged"]["simulated"]["drop"]
    assert after.verification[-1].step == "int8 in ONNX Runtime's integer kernels vs simulated"
    assert after.verification[-1].agreement >= recipe.ENGINES_AGREE
    with Segmenter.open(second) as segment:
        assert segment(drawn_frame((40, 60), 0)).mask.shape == (40, 60)


def test_engines_that_do_not_agree_fail_the_gate_and_leave_no_file(
        engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "ENGINES_AGREE", 1.01)
    monkeypatch.setattr(recipe, "fine_tuned", lambda graph, *rest: (graph, [1.0]))
    assert run(engine, data, tmp_path, "--qat", "1") == 1
    assert "are required of a fine-tuned network; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx*"))


def test_an_interrupted_training_leaves_no_file(
        engine: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def interrupt(text: str) -> None:
        if text:
            steps.append(text)
            raise KeyboardInterrupt

    monkeypatch.setattr(cli, "status", interrupt)
    assert run(engine, data, tmp_path, "--qat", "1000") == 130
    assert len(steps) == 1
    assert steps[0].startswith("epoch 1/1000  step 1/1  loss ")
    assert not list(tmp_path.glob("*.onnx*"))


@pytest.mark.parametrize(("more", "message"), [
    (["--qat", "0"], "--qat: '0' is not a whole number of at least 1"),
    (["--qat", "1", "--improve", "equalise", "bias"], "--improve bias would undo what --qat learns"),
])
def test_what_makes_no_sense_is_refused_before_any_work(
        engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str],
        message: str) -> None:
    assert run(engine, data, tmp_path, *more) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_labels_to_learn_from_it_is_refused(
        engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(engine, data / "train", tmp_path, "--qat", "1") == 2
    error = capsys.readouterr().err
    assert f"there is no {data / 'train' / 'train' / 'images'}" in error
    assert error.count("\n") == 1


def test_what_the_trainer_refuses_is_told_in_its_words(
        engine: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    other = tmp_path / "data"
    shutil.copytree(data, other)
    assert cv2.imwrite(str(other / "train/labels/0.png"), np.full((32, 48), 18, np.uint8))
    assert run(engine, other, tmp_path / "out", "--qat", "1") == 2
    assert "has the label value 18; expected 0..10 or 255" in capsys.readouterr().err
