"""The whole command on a tiny network and drawn frames."""

import json
import shutil

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration import request, source, trial
from calibration.__main__ import main
from calibration.data.frames import drawn_frame
from calibration.judge.lint import main as lint_main
from calibration.judge.measure import HeldOut
from calibration.quantise import ranges
from runtime.artifact import open_artifact, write_artifact
from runtime.forms import PORTABLE
from runtime.segmenter import Segmenter
from runtime.sessions import engines
from tests import tiny


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return tiny.artifact(tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """train/ with 33 images; val/ with 4."""
    folder = tmp_path_factory.mktemp("data")
    for part, count in (("train/images", 33), ("val/images", 4)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            assert cv2.imwrite(str(folder / part / f"{i:02}.png"), drawn_frame((32, 48), 3 * i + (part[0] == "v")))
    return folder


@pytest.fixture(scope="module")
def labelled(data, engine, tmp_path_factory):
    """The same with labels that are the float network's own masks with 10 % ignored."""
    folder = shutil.copytree(data, tmp_path_factory.mktemp("labelled") / "data")
    (folder / "val/labels").mkdir()
    with Segmenter.open(engine) as segment:
        for image in (folder / "val/images").iterdir():
            mask = segment(cv2.imread(str(image))).mask
            mask[:3] = 255
            assert cv2.imwrite(str(folder / "val/labels" / image.name), mask)
    return folder


def run(engine, data, out, *more):
    return main([str(engine), "--data", str(data), "--frames", "32", "--out", str(out), *more])


def test_the_command_writes_an_artifact_that_the_runtime_opens(engine, labelled, tmp_path, capsys):
    assert run(engine, labelled, tmp_path) == 0
    artifact, path = open_artifact(tmp_path / "tiny-32x48-int8.onnx")
    assert artifact.precision == "int8"
    assert artifact.calibration["frames"] == 32
    first, others = 16 * 24 * 8 * 27, 8 * 12 * 16 * 72 + 16 * 16 + 8 * 12 * 16 * 11
    assert artifact.calibration["int8_macs"] == pytest.approx(others / (first + others))
    assert len(artifact.calibration["fingerprint"]) == 64
    assert [check.step.split(" vs")[0] for check in artifact.verification[-3:]] == [
        "int8 simulated in float", "int8 in ONNX Runtime's integer kernels",
        "int8 in ONNX Runtime's integer kernels"]
    assert artifact.calibration["judged"]["float"]["miou"] == 1  # the labels are its own masks
    assert 0.5 < artifact.calibration["judged"]["simulated"]["miou"] < 1
    with Segmenter.open(path) as segment:
        assert segment(drawn_frame((40, 60), 0)).mask.shape == (40, 60)
    assert lint_main([str(path)]) == 0
    assert "60.6% of MACs in INT8" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, engine in engines().items() if engine.form != PORTABLE])
def test_an_engine_gets_a_file_of_its_own_beside_the_portable_one(engine, labelled, tmp_path, capsys, name):
    if hindrance := engines()[name].hindrance():
        pytest.skip(hindrance)
    assert run(engine, labelled, tmp_path) == 0
    assert run(engine, labelled, tmp_path, "--engine", name) == 0
    artifact, path = open_artifact(tmp_path / f"tiny-32x48-int8-{name}.onnx")
    form = engines()[name].form
    assert (artifact.integers, artifact.calibration["made_for"]) == (form.integers, name)
    assert artifact.verification[-2].step == f"int8 in {engines()[name].title}'s integer kernels vs fp32"
    assert open_artifact(tmp_path / "tiny-32x48-int8.onnx")[0].integers == "signed"
    with Segmenter.open(path, engine=name) as segment:
        assert segment(drawn_frame((40, 60), 0)).mask.shape == (40, 60)


@pytest.mark.parametrize("faster", ["", "without zero-points", "with global pool, product in integers, too,"])
def test_what_rounds_more_is_taken_where_the_engine_is_faster_beyond_doubt(engine, labelled, tmp_path, capsys,
                                                                           monkeypatch, faster):
    if hindrance := engines()["openvino"].hindrance():
        pytest.skip(hindrance)
    asked = ["without zero-points", "with global pool, product in integers, too,"]
    highs = {what: bound + (-0.01 if what == faster else 0.01) for what, bound in zip(asked, (1, 0.95))}
    answers = iter(highs.values())
    monkeypatch.setattr(request, "ratio_in_turns", lambda *_: (0.9, 0.8, next(answers)))
    assert run(engine, labelled, tmp_path, "--engine", "openvino") == 0
    artifact, path = open_artifact(tmp_path / "tiny-32x48-int8-openvino.onnx")
    more = ["GlobalAveragePool", "Mul"] if faster == asked[1] else []
    assert artifact.calibration["operators"] == ["Conv", *more]
    assert artifact.calibration["zero_points"] == (faster != asked[0])
    zeros = {node.input[2] for node in onnx.load(path).graph.node if node.op_type == "QuantizeLinear"}
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer if tensor.name in zeros}
    assert kinds == ({TensorProto.UINT8, TensorProto.INT8} if faster == asked[0] else {TensorProto.UINT8})
    said = capsys.readouterr().out
    for what, high in highs.items():
        taken = "taken" if what == faster else "not taken"
        assert f"{what} a frame takes 0.900 [0.800, {high:.3f}] times as long in OpenVINO here: {taken}, as" in said


def test_an_engine_with_a_format_of_its_own_is_calibrated_by_its_exporter(labelled, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(source, "run_exporter", lambda words, show: asked.append(words))
    assert main(["lraspp", "--data", str(labelled), "--engine", "litert", "--max-drop", "0.5",
                 "--out", str(tmp_path)]) == 0
    assert asked == [["export.litert", "lraspp", "--precision", "int8", "--calibration", str(labelled / "train/images"),
                      "--out", str(tmp_path), "--data", str(labelled / "val"), "--max-drop", "0.5"]]


@pytest.mark.parametrize(("more", "message"), [
    (["--engine", "abacus"], "--engine abacus has no INT8 of its own; expected"),
    (["--engine", "openvino", "--qat", "1"], "--qat learns the portable form"),
    (["--engine", "litert", "--verdict"], "is calibrated by its own exporter")])
def test_what_an_engine_cannot_be_asked_for_is_refused_before_any_work(engine, data, tmp_path, capsys, more, message):
    assert run(engine, data, tmp_path, *more) == 2
    assert message in capsys.readouterr().err


def prices(second_ms, other_ms, monkeypatch):
    """What the engine's profile and clock would say, as a busy machine's say something else every time: a frame takes
    10 ms, and one less for each layer in INT8."""
    def price(graph, *_):
        nodes = [layer.node for layer in graph.layers if layer.macs]
        return {node: second_ms if number == 1 else other_ms for number, node in enumerate(nodes)}

    def whole_ms(artifact, model, *_):
        weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
        return 10.0 - sum(tensor.data_type == TensorProto.INT8 for tensor in weights)

    monkeypatch.setattr(trial, "price", price)
    monkeypatch.setattr(trial, "whole_ms", whole_ms)


def test_a_plan_says_what_each_float_layer_costs_and_buys_in_an_engine(engine, labelled, tmp_path, capsys, monkeypatch):
    prices(-0.25, 0.1, monkeypatch)
    assert run(engine, labelled, tmp_path, "--engine", "onnx", "--max-ms", "9.5") == 0
    artifact, _ = open_artifact(tmp_path / "tiny-32x48-int8-onnx.onnx")
    faster, bought = artifact.calibration["kept_in_float"]
    assert artifact.calibration["max_ms"] == 9.5
    assert "it is 0.250 ms faster in float" in faster["reason"]
    assert "and saves 0.100 ms" in bought["reason"]
    assert run(engine, labelled, tmp_path / "late", "--engine", "onnx", "--max-ms", "0.5") == 1
    assert "0.5 are allowed; nothing was written" in capsys.readouterr().err
    assert not list((tmp_path / "late").glob("*int8*"))
    assert run(engine, labelled, tmp_path, "--max-ms", "5") == 2
    assert "--max-ms needs an engine to measure in" in capsys.readouterr().err


def test_layers_that_are_all_faster_in_float_are_no_int8_file(engine, labelled, tmp_path, capsys, monkeypatch):
    prices(-0.25, -0.25, monkeypatch)
    assert run(engine, labelled, tmp_path, "--engine", "onnx", "--max-ms", "1000") == 1
    assert "layers is faster in float in this engine on this machine; nothing was written" in capsys.readouterr().err
    assert not list(tmp_path.glob("*int8*"))


def test_two_runs_write_the_same_bytes(engine, data, tmp_path):
    assert run(engine, data, tmp_path / "a") == run(engine, data, tmp_path / "b") == 0
    first, second = ((tmp_path / x / "tiny-32x48-int8.onnx").read_bytes() for x in "ab")
    assert first == second


def test_a_budget_keeps_layers_in_float_and_says_which_and_why(engine, data, tmp_path):
    assert run(engine, data, tmp_path) == 0
    full = open_artifact(tmp_path / "tiny-32x48-int8.onnx")[0].calibration["judged"]["simulated"]["drop"]
    assert run(engine, data, tmp_path, "--max-drop", str(full * 0.8)) == 0
    artifact, _ = open_artifact(tmp_path / "tiny-32x48-int8.onnx")
    assert artifact.calibration["judged"]["simulated"]["drop"] <= full * 0.8
    assert artifact.calibration["int8_macs"] < 1
    kept = artifact.calibration["kept_in_float"]
    assert kept
    assert all("in INT8 it costs" in entry["reason"] for entry in kept)


def test_an_impossible_budget_fails_and_writes_nothing(engine, labelled, tmp_path, capsys):
    assert run(engine, labelled, tmp_path, "--max-drop", "-1") == 1
    assert not list(tmp_path.glob("*.onnx"))
    assert "nothing was written" in capsys.readouterr().err


def test_sensitivity_names_every_layer_and_resumes(engine, data, tmp_path, capsys, monkeypatch):
    assert run(engine, data, tmp_path, "--sensitivity") == 0
    report = json.loads((tmp_path / "tiny-32x48-int8.sensitivity.json").read_text())
    assert {row["layer"]["role"] for row in report["rows"]} >= {"convolution", "SE gate", "classifier",
                                                                "hard-swish", "hard-sigmoid"}
    assert (tmp_path / "tiny-32x48-int8.sensitivity.svg").read_text().startswith("<svg")
    assert "% of pixels change class when all layers are INT8" in capsys.readouterr().out
    cache, = (tmp_path / ".calibration").glob("sensitivity-*.json")
    rows = json.loads(cache.read_text())
    rows[next(iter(rows))][0] = 77.0
    cache.write_text(json.dumps(rows))
    assert run(engine, data, tmp_path, "--sensitivity") == 0
    assert "77.00" in capsys.readouterr().out


def test_the_verdict_has_a_row_for_every_file_and_engine_and_ends_with_a_decision(engine, labelled, tmp_path, capsys):
    assert run(engine, labelled, tmp_path, "--verdict") == 0
    text = capsys.readouterr().out
    for row in ("float32 ", "INT8, simulated in float", "INT8, ONNX Runtime's kernels", "INT8 weights only",
                "FP16 weights only", "ONNX Runtime, int8", "Verdict for this machine"):
        assert row in text
    assert "INT8, OpenVINO's kernels" in text or engines()["openvino"].hindrance()
    if why := engines()["openvino-bf16"].hindrance():  # INT8 with bfloat16 between is a candidate where there is any
        assert f"OpenVINO BF16, either file: not measured, {why}" in text
    heading = next(line for line in text.splitlines() if line.startswith("on 4 frames"))
    assert heading.split("  ")[-1].strip() == "worst frame"
    exact = next(line for line in text.splitlines() if line.startswith("float32 "))
    assert exact.split()[2:] == ["100.00", "[100.00,", "100.00]", "100.00%", "100.00%"]  # the labels are its own masks
    half = next(line for line in text.splitlines() if line.startswith("FP16 weights only"))
    assert len(half) == len(heading)
    assert half.split()[7].startswith(("+", "-"))


def test_ranges_are_cached_and_an_interrupted_run_goes_on_where_it_stopped(engine, data, tmp_path, monkeypatch):
    class Interrupted(ranges.Probe):
        runs = 0

        def run_all(self, frame):
            Interrupted.runs += 1
            if Interrupted.runs == 20:
                raise KeyboardInterrupt
            return super().run_all(frame)

    monkeypatch.setattr(ranges, "Probe", Interrupted)
    assert run(engine, data, tmp_path) == 130
    assert not list(tmp_path.glob("*.onnx"))
    assert run(engine, data, tmp_path) == 0
    assert Interrupted.runs == 20 + 32 - 16  # 16 had been saved, 8 at a time
    monkeypatch.undo()
    resumed = (tmp_path / "tiny-32x48-int8.onnx").read_bytes()
    assert run(engine, data, tmp_path / "fresh") == 0
    assert (tmp_path / "fresh/tiny-32x48-int8.onnx").read_bytes() == resumed


def test_all_improvements_together_still_write_a_portable_file(engine, data, tmp_path):
    assert run(engine, data, tmp_path, "--improve", "equalise", "rounding", "bias") == 0
    artifact, path = open_artifact(tmp_path / "tiny-32x48-int8.onnx")
    assert artifact.calibration["improve"] == ["bias", "equalise", "rounding"]
    assert lint_main([str(path)]) == 0


def edited(engine, folder, change):
    """A copy of the float artifact whose graph has been changed."""
    import dataclasses

    from runtime.artifact import engine_sha256

    artifact, path = open_artifact(engine)
    model = onnx.load(path)
    change(model)
    target = folder / path.name
    onnx.save(model, target)
    write_artifact(dataclasses.replace(artifact, sha256=engine_sha256(target)), target)
    return target


def weight(model, factor):
    tensor = next(t for t in model.graph.initializer if t.name.endswith("classifier.weight"))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))


def test_a_network_that_yields_nan_is_refused_with_the_layer_and_the_image(engine, data, tmp_path, capsys):
    broken = edited(engine, tmp_path, lambda model: weight(model, np.nan))
    assert run(broken, data, tmp_path) == 2
    assert "classifier yields NaN or infinity" in capsys.readouterr().err


def test_activations_that_are_always_zero_are_named_and_survive(engine, data, tmp_path, capsys):
    def kill(model):
        for tensor in model.graph.initializer:
            if "down.0" in tensor.name:
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))
    assert run(edited(engine, tmp_path, kill), data, tmp_path) == 0
    assert "zero on every calibration frame" in capsys.readouterr().out


def test_a_quantised_artifact_is_refused(engine, data, tmp_path, capsys):
    assert run(engine, data, tmp_path) == 0
    assert run(tmp_path / "tiny-32x48-int8.onnx", data, tmp_path) == 2
    assert "is int8 for onnx; expected a float32" in capsys.readouterr().err


def test_labels_of_another_class_count_are_refused(engine, labelled, tmp_path, capsys):
    other = tmp_path / "data"
    shutil.copytree(labelled, other)
    label = next((other / "val/labels").iterdir())
    assert cv2.imwrite(str(label), np.full((32, 48), 18, np.uint8))
    assert run(engine, other, tmp_path) == 2
    assert "label value 18, which is no class" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "message"), [
    (["--frames", "3"], "left to chance"),
    (["--frames", "0", "--allow-few"], "--frames: '0' is not a whole number of at least 1"),
    (["--data", "nowhere"], "is not a folder"), (["--weights", "x"], "has its weights and size already")])
def test_bad_arguments_end_with_2_and_say_what_to_do(engine, data, tmp_path, capsys, more, message):
    assert run(engine, data, tmp_path, *more) == 2
    assert message in capsys.readouterr().err


def test_without_a_frame_left_to_judge_by_the_command_says_how_many_to_take(engine, data, tmp_path, capsys):
    assert run(engine, data / "train", tmp_path, "--frames", "33") == 2
    assert "expected some to evaluate on. Try: --frames 24" in capsys.readouterr().err


def test_the_search_frames_are_spread_over_those_held_out():
    held_out = HeldOut(tuple("abcde"), tuple(drawn_frame((8, 8), i) for i in range(5)))
    assert held_out.part(3).names == ("a", "c", "e")
