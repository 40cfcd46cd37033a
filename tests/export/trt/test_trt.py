"""Plans built by the real TensorRT-RTX, which needs no GPU for that. Nothing here executes a plan."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from export.build import build
from export.target import Job
from export.trt import __main__ as trt
from export.trt.exporter import PlanOptions, plan_from_onnx
from export.trt.library import Library, choose
from runtime.artifact import OutputKind, json_path, open_artifact, write_artifact
from runtime.errors import GateFailed, UserError
from runtime.sessions._plan import header_problem, log_of, plan_name
from tests import tiny

rtx = pytest.importorskip("tensorrt_rtx", reason="pip install 'edgeseg[trt]'")
NO_GPU = "this machine has no NVIDIA driver"


@pytest.fixture(scope="module")
def library() -> Library:
    return choose("rtx", (), NO_GPU)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """The tiny network as ONNX with a class map."""
    return tiny.artifact(tmp_path_factory.mktemp("onnx"), OutputKind.CLASSES)


def built(source, out, library, **options):
    lines: list[str] = []
    return plan_from_onnx(source, out, library, NO_GPU, PlanOptions(**options), say=lines.append), lines


def test_a_plan_built_without_a_gpu_says_that_nothing_has_run_it(classes, tmp_path, library):
    path, lines = built(classes, tmp_path, library)
    artifact, engine = open_artifact(path)
    assert path.name == "tiny-32x48-fp32-classes-rtx.plan"
    assert artifact.target == "trt"
    assert artifact.details["status"] == "built, not executed"
    assert artifact.details["compute_capabilities"] == ["8.0", "8.6", "8.9", "12.0"]
    assert artifact.verification[-1].step == "graph for TensorRT vs onnx"
    assert artifact.verification[-1].agreement == 1
    assert artifact.tools["tensorrt_rtx"] == rtx.__version__
    assert lines[-1].endswith(", random weights, UNTRAINED; built, not executed (this machine has no NVIDIA driver)")
    assert plan_name(artifact).encode() in engine.read_bytes()


def test_two_builds_are_byte_identical_and_so_are_their_jsons(classes, tmp_path, library):
    first, second = (built(classes, tmp_path / name, library)[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert json_path(first).read_bytes() == json_path(second).read_bytes()


def test_logits_leave_the_plan_as_float32_also_where_it_computes_in_float16(tmp_path, library):
    path, lines = built(tiny.artifact(tmp_path, OutputKind.LOW), tmp_path, library, precision="fp16")
    artifact, _ = open_artifact(path)
    assert (artifact.precision, artifact.output.dtype) == ("fp16", "float32")
    assert "float16 ranges: every value stays below 25% of 65504" in lines[0]
    assert artifact.details["layers"]["half"] > artifact.details["layers"]["float"]


def test_what_float16_left_in_float32_is_on_record(classes, tmp_path, library, monkeypatch):
    monkeypatch.setattr("export.onnx.fp16_ranges.LARGEST", 400.0)  # a quarter of it is less than a grey level of 255
    artifact, _ = open_artifact(built(classes, tmp_path, library, precision="fp16")[0])
    kept = artifact.details["kept_in_float32"]
    assert ("Conv", "input") in {(node["op"], node["why"]) for node in kept}
    assert artifact.details["layers"]["float"] > 4


def test_a_plan_for_listed_gpus_names_them(classes, tmp_path, library):
    path, _ = built(classes, tmp_path, library, sm=(75, 89))
    assert path.name.endswith("-rtx-sm75-sm89.plan")
    assert open_artifact(path)[0].details["compute_capabilities"] == ["7.5", "8.9"]


def test_a_dynamic_graph_is_built_for_a_range_and_not_without_one(tmp_path, library):
    dynamic = build("onnx", Job(tiny.request(output=OutputKind.CLASSES, dynamic=True), tmp_path))
    with pytest.raises(UserError, match=r"needs a range\. Try: --min"):
        built(dynamic, tmp_path, library)
    with pytest.raises(UserError, match="each no larger than the next"):
        built(dynamic, tmp_path, library, profile=((32, 48), (16, 24), (64, 96)))
    path, _ = built(dynamic, tmp_path, library, profile=((16, 24), (32, 48), (64, 96)))
    artifact, _ = open_artifact(path)
    assert artifact.input.shape == (1, 0, 0, 3)
    assert artifact.details["profile"] == [[16, 24], [32, 48], [64, 96]]


def test_a_range_for_a_fixed_graph_is_refused(classes, tmp_path, library):
    with pytest.raises(UserError, match="is for 32x48 only"):
        built(classes, tmp_path, library, profile=((16, 24), (32, 48), (64, 96)))


def test_the_layers_are_listed_with_their_precision_and_the_limit_of_that_knowledge(classes, tmp_path, library):
    _, lines = built(classes, tmp_path, library, inspect=True)  # stem, down, gate and classifier convolve
    assert sum(" CONVOLUTION " in line and " FLOAT " in line for line in lines[1].splitlines()) == 4
    assert "is known where a GPU opens the plan" in lines[2]


def test_a_json_that_does_not_describe_the_graph_leaves_nothing_behind(classes, tmp_path, library):
    artifact, engine = open_artifact(classes)
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(engine.read_bytes())
    wrong = dataclasses.replace(artifact.output, name="other")
    write_artifact(dataclasses.replace(artifact, file=copy.name, output=wrong), copy)
    with pytest.raises(GateFailed, match="the network that TensorRT read has the tensors"):
        built(copy, tmp_path / "out", library)
    assert not (tmp_path / "out").exists()


def test_a_damaged_header_is_known_without_a_gpu(classes, tmp_path, library):
    plan = built(classes, tmp_path, library)[0].read_bytes()
    runtime = rtx.Runtime(log_of(rtx))
    assert header_problem(rtx, runtime, b"\0" + plan) == "MALFORMED_ENGINE"
    assert header_problem(rtx, runtime, plan) in ("", "CUDA_ERROR")


def test_int8_and_fp32_are_never_made_up_from_what_they_are_not(classes, tmp_path, library):
    with pytest.raises(UserError, match=r"--precision int8 was received.*is fp32\. Try: python -m calibration"):
        built(classes, tmp_path, library, precision="int8")


def test_int8_without_images_to_calibrate_with_says_what_to_add(classes, tmp_path, capsys):
    assert trt.main([str(classes), "--precision", "int8", "--out", str(tmp_path)]) == 2
    assert "--precision int8 needs images to calibrate with. Try: --calibration DIR" in capsys.readouterr().err


def test_int8_is_built_from_the_portable_graph_that_calibration_writes(classes, tmp_path, capsys):
    for index in range(66):  # 64 to calibrate on, two to judge by
        tiny.picture(tmp_path / f"{index:02d}.png", (32 + index, 48))
    assert trt.main([str(classes), "--precision", "int8", "--calibration", str(tmp_path), "--out", str(tmp_path)]) == 0
    artifact, _ = open_artifact(tmp_path / "tiny-32x48-int8-classes-rtx.plan")
    assert artifact.precision == "int8"
    assert artifact.details["layers"]["quantize"] > 0
    assert "INT8 convolutions are not in its support matrix" in capsys.readouterr().out
    assert artifact.calibration["fingerprint"]


def test_a_file_cannot_be_given_another_size_or_other_weights(classes, tmp_path, capsys):
    assert trt.main([str(classes), "--size", "64x64", "--weights", "none", "--out", str(tmp_path)]) == 2
    assert "--weights, --size were received together with" in capsys.readouterr().err


def test_one_of_min_opt_max_alone_is_refused(classes, capsys):
    assert trt.main([str(classes), "--max", "64x64"]) == 2
    assert "belong together" in capsys.readouterr().err


def test_a_name_that_is_exported_already_is_not_exported_again(classes, tmp_path, monkeypatch, capsys):
    for path in (classes, json_path(classes)):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr("export.command.request", lambda name, **_: tiny.request(output=OutputKind.CLASSES))
    monkeypatch.delattr("export.onnx.exporter.exported")
    assert trt.main(["tiny", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("builder: TensorRT")
    assert "tiny-32x48-fp32-classes.onnx: unchanged, used again" in printed
    assert json.loads((tmp_path / "tiny-32x48-fp32-classes-rtx.plan.json").read_text())["name"] == "tiny"


def test_a_plan_does_not_open_where_there_is_no_driver(classes, tmp_path, library):
    from runtime.segmenter import Segmenter
    from runtime.sessions import _cuda as cuda

    pytest.importorskip("cuda.bindings")
    try:
        cuda.gpu()
    except UserError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    path, _ = built(classes, tmp_path, library)
    with pytest.raises(UserError, match=r"(no NVIDIA driver|driver finds no GPU|serves CUDA up to).*Try: "):
        Segmenter.open(path)
