"""export.litert: the file computes what the network does, INT8 has our ranges, and what cannot be is refused."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from calibration.data.frames import drawn_frame
from calibration.quantise.thresholds import Range, choose
from export import litert
from export.litert import convert, delegates, exporter, quantise
from export.litert.integers import within_xnnpack
from export.target import Job
from runtime.artifact import OutputKind, open_artifact
from runtime.errors import GateFailed, UserError
from runtime.segmenter import Segmenter
from runtime.sessions.litert import LitertSession, library
from tests import lite, tiny

pytest.importorskip("ai_edge_litert")

FRAME = drawn_frame((32, 48), 5)[None]
EXPECTED = tiny.logits(FRAME)


@pytest.fixture
def photos(tmp_path):
    """A folder of four drawn frames."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), drawn_frame((40, 60), index))
    return folder


def test_the_interpreter_computes_the_networks_own_output_from_a_raw_frame(tmp_path, monkeypatch):
    lines: list[str] = []
    artifact, path = open_artifact(lite.artifact(tmp_path, monkeypatch, say=lines.append))
    found = LitertSession(path).run(FRAME)
    assert (found.shape, found.dtype) == (artifact.output.shape, artifact.output.dtype)
    np.testing.assert_allclose(found, EXPECTED, atol=1e-4)
    assert path.name == "tiny-32x48-fp32.tflite"
    assert lines[0].startswith("litert vs torch: 100.0000%")
    assert artifact.verification[0].control < 0.9
    assert artifact.details["operators"]["CONV_2D"] == 4


def test_the_runtime_makes_the_same_mask_of_it_as_of_the_onnx_file(tmp_path, monkeypatch):
    frame = drawn_frame((50, 70), 3)
    with Segmenter.open(lite.artifact(tmp_path, monkeypatch)) as ours, Segmenter.open(tiny.artifact(tmp_path)) as onnx:
        assert np.mean(ours(frame).mask == onnx(frame).mask) > 0.9999


def test_a_network_with_other_weights_fails_the_gate_and_leaves_nothing(tmp_path, monkeypatch):
    model = lite.converted()
    monkeypatch.setattr(exporter, "tflite_from_torch", lambda wanted: model)
    wanted = dataclasses.replace(tiny.request(), network=tiny.network(2))
    with pytest.raises(GateFailed, match="litert vs torch"):
        exporter.exported(Job(wanted, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def scales(path, names):
    """Scale of each tensor that keeps its name in an INT8 file."""
    interpreter = library().Interpreter(model_path=str(path))
    return {entry["name"]: entry["quantization"][0] for entry in interpreter.get_tensor_details()
            if entry["name"] in names and entry["dtype"] == np.int8}


def test_int8_has_the_ranges_that_our_calibration_chose(tmp_path, monkeypatch, photos):
    lines: list[str] = []
    given = {}
    right = quantise.observed
    monkeypatch.setattr(quantise, "observed", lambda *a: given.setdefault("seen", right(*a)))
    path = lite.artifact(tmp_path / "out", monkeypatch, precision="int8", calibration=photos, allow_few=True,
                         say=lines.append)
    artifact, _ = open_artifact(path)
    ranges = choose(exporter.METHOD, given["seen"], zero_points=True)
    found = scales(path, ranges)
    assert len(found) > 5
    agreeing = [name for name, scale in found.items()
                if scale == pytest.approx((ranges[name][1] - ranges[name][0]) / 255, rel=1e-4)]
    assert len(agreeing) >= len(found) - 2  # an operator that copies integers has its input's scale
    assert artifact.calibration["frames"] == 4
    assert [check.step for check in artifact.verification] == ["litert vs torch", "equalised vs torch",
                                                            "int8 vs torch"]
    assert "HARD_SWISH" not in artifact.details["operators"]
    assert LitertSession(path).run(FRAME).dtype == np.float32
    assert any(line.startswith("INT8 ") and "Arm" in line for line in lines)


@pytest.mark.parametrize("function", ["HARD_SWISH", "RELU"])
def test_an_activation_function_that_xnnpack_lacks_in_int8_becomes_operators_that_it_has(function):
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray, read_model_from_bytearray

    read = read_model_from_bytearray(bytearray(lite.converted()))
    builtin = schema.BuiltinOperator
    own = next(code for code in read.operatorCodes if code.builtinCode == builtin.HARD_SWISH)
    own.builtinCode = own.deprecatedBuiltinCode = getattr(builtin, function)  # the same network with another function
    before = bytes(convert_object_to_bytearray(read))
    after = within_xnnpack(before)
    assert delegates.operators(before)[function] == 1
    assert not {"HARD_SWISH", "RELU"} & set(delegates.operators(after))
    np.testing.assert_allclose(LitertSession(after).run(FRAME), LitertSession(before).run(FRAME), atol=1e-4)
    scaled = dict.fromkeys(quantise.observed(after, [FRAME]), Range(-8.0, 8.0))
    assert not {"HARD_SWISH", "RELU"} & set(delegates.operators(quantise.int8_from_float(after, scaled)))


def test_float16_weights_halve_the_file_and_keep_every_pixel(tmp_path, monkeypatch):
    path = lite.artifact(tmp_path, monkeypatch, precision="fp16")
    assert open_artifact(path)[0].verification[-1].agreement >= 0.998
    stored = [entry["dtype"] for entry in library().Interpreter(model_path=str(path)).get_tensor_details()]
    assert stored.count(np.float16) == 4
    assert len(path.read_bytes()) < len(lite.converted())


def test_int8_without_frames_is_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="--calibration DIR"):
        exporter.exported(Job(tiny.request(precision="int8"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_file_that_loses_too_much_is_refused_with_the_figure(tmp_path, monkeypatch):
    tiny.labelled(tmp_path)
    artifact, _ = open_artifact(lite.artifact(tmp_path / "kept", monkeypatch, data=tmp_path))
    assert artifact.details["accuracy"]["engine"] == "LiteRT"
    with pytest.raises(GateFailed, match="points of mIoU"):
        lite.artifact(tmp_path / "refused", monkeypatch, data=tmp_path, max_drop=-1.0)
    assert not list((tmp_path / "refused").glob("*"))


def test_an_operator_that_the_converter_does_not_know_is_named(monkeypatch):
    def refusing(*_):
        raise RuntimeError("Lowering not found: aten.cummax.default\n\nWhile executing %cummax\nUse tlparse")

    monkeypatch.setitem(sys.modules, "litert_torch", SimpleNamespace(convert=refusing))
    with pytest.raises(UserError, match=r"refuses tiny \(Lowering not found: aten.cummax.default\)"):
        convert.tflite_from_torch(tiny.request())


@pytest.mark.parametrize(("stride", "padding", "output_padding"), [((2, 2), (1, 1), (1, 1)), ((2, 3), (1, 2), (0, 2))])
def test_a_transposed_convolution_with_output_padding_is_cut_to_its_size(stride, padding, output_padding):
    x, weight, bias = torch.randn(1, 4, 5, 6), torch.randn(4, 3, 3, 3), torch.randn(6)
    words = (x, weight, bias, stride, padding, output_padding, 2)
    torch.testing.assert_close(convert.cut_to_size(*words), torch.nn.functional.conv_transpose2d(*words))


def test_a_transposed_convolution_that_the_converter_has_is_left_to_it():
    assert convert.cut_to_size(torch.randn(1, 2, 3, 3), torch.randn(2, 2, 2, 2), stride=(2, 2)) is NotImplemented


def test_a_single_cell_is_spread_by_interpolation_and_nothing_else_is():
    cell = torch.randn(1, 3, 1, 1)
    assert torch.equal(convert.spread(cell, (-1, -1, 4, 5)), cell.expand(-1, -1, 4, 5))
    assert convert.spread(torch.randn(3, 1), (3, 5)) is NotImplemented
    assert convert.spread(torch.randn(1, 1, 1, 1), (1, 8, 4, 5)) is NotImplemented


@pytest.mark.parametrize(("size", "factors"), [((5, 7), None), ((9, 6), None), (None, (1.7, 2.3))])
def test_nearest_interpolation_between_whole_factors_takes_torchs_rows_and_columns(size, factors):
    x = torch.randn(1, 2, 3, 4)
    assert torch.equal(convert.picked(x, size, factors), torch.ops.aten.upsample_nearest2d.vec(x, size, factors))
    assert convert.picked(x, (6, 12), None) is NotImplemented


class Pooled(tiny.TinyNetwork):
    """With the image pooling of DeepLabV3: a cell that is expanded over the map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.stem(x))
        return self.classifier(x + self.gate(x).expand(-1, -1, *x.shape[2:]))


class Unknown(tiny.TinyNetwork):
    """With an operator that the converter has no translation for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cummax(super().forward(x), 2).values


def of(kind: type[nn.Module]) -> Job:
    networks = []
    for seed in (0, 1):
        network = kind().eval()
        network.load_state_dict(tiny.network(seed).state_dict())
        networks.append(network)
    return dataclasses.replace(tiny.request(), network=networks[0], control=networks[1])


@pytest.mark.slow
def test_a_pooled_branch_runs_in_the_interpreter(tmp_path):
    lite.converted()
    path = exporter.exported(Job(of(Pooled), tmp_path))
    assert "BROADCAST_TO" not in open_artifact(path)[0].details["operators"]


@pytest.mark.slow
def test_the_converter_itself_names_what_it_does_not_know():
    lite.converted()
    with pytest.raises(UserError, match=r"aten\.cummax"):
        convert.tflite_from_torch(of(Unknown))


@pytest.mark.slow
@pytest.mark.parametrize("output", [OutputKind.LOGITS, OutputKind.CLASSES])
def test_the_other_outputs_convert_too(tmp_path, output):
    lite.converted()
    artifact, path = open_artifact(exporter.exported(Job(tiny.request(output=output), tmp_path)))
    found = LitertSession(path).run(FRAME)
    assert (found.shape, found.dtype) == (artifact.output.shape, artifact.output.dtype)


@pytest.mark.slow
def test_two_exports_are_byte_identical(tmp_path, monkeypatch):
    first = lite.artifact(tmp_path / "a", monkeypatch)
    assert convert.tflite_from_torch(tiny.request()) == first.read_bytes()


def test_delegates_leave_to_the_cpu_what_their_sources_do_not_list():
    assert delegates.refused({"CONV_2D": 40, "HARD_SWISH": 3, "RESIZE_BILINEAR": 1}) == {}
    found = delegates.refused(["GATHER_ND", "CONV_2D"])
    assert found == {"GPU": ["GATHER_ND"], "NNAPI": ["GATHER_ND"], "MediaTek Neuron": ["GATHER_ND"]}
    line = delegates.report(["CAST", "CONV_2D"])
    assert line == ["GPU leaves CAST to the CPU (tflite/delegates/gpu/common/model_builder.cc)"]


def test_a_machine_without_the_converter_is_told_both_steps(tmp_path, monkeypatch):
    from runtime import sessions

    monkeypatch.setattr(sessions, "installed", lambda packages: dict.fromkeys(
        set(packages) - set(convert.CONVERTER), "1"))
    with pytest.raises(UserError, match=r"litert-torch.*pip install --no-deps -r .*requirements\.txt"):
        litert.build(Job(tiny.request(), tmp_path))
    monkeypatch.setattr(sessions, "installed", lambda packages: dict.fromkeys(set(packages) - {"jax"}, "1"))
    assert litert.TARGET.hindrance() == "jax not installed: pip install 'edgeseg[litert-export]'"
