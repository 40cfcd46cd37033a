"""Core ML export of a tiny network: what is saved computes what the network does, and says what it is."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch

from calibration.data.frames import drawn_frame
from export.coreml import __main__ as command
from export.coreml import exporter
from export.coreml import quantize as coreml_quantize
from export.coreml.exporter import CoremlOptions, exported
from export.coreml.package import OURS
from export.coreml.reference import MilProgram, Operation, TensorType, read_package
from export.coreml.reference.session import ReferenceSession
from export.target import Job
from export.wrapper import Normalised
from runtime.artifact import OutputKind, engine_sha256, open_artifact
from runtime.contract import hold_against_engine
from runtime.errors import GateFailed, UserError
from runtime.segmenter import Segmenter
from runtime.sessions.coreml import ports
from tests import tiny


@pytest.fixture(autouse=True)
def every_weight_counts(monkeypatch):
    """The tiny network has no tensor of 512 weights."""
    monkeypatch.setattr(coreml_quantize, "MIN_WEIGHTS", 16)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in range(4):
        tiny.picture(folder / f"{index}.png", (32, 48 + index))
    return folder


@functools.cache
def conversion(output, precision, options, convert=exporter.model_from_torch):
    """The tiny network as coremltools converts it; nothing that is done with it later changes it."""
    return convert(tiny.request(output=output, precision=precision), options)


@pytest.fixture
def converted(monkeypatch):
    """Exports the tiny network without converting it once more: seconds, of which the tests have a dozen."""
    monkeypatch.setattr(exporter, "model_from_torch", lambda wanted, options: conversion(
        wanted.output, "fp32" if wanted.precision == "fp32" else "fp16", options))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return exported(Job(tiny.request(output=OutputKind.CLASSES), tmp_path_factory.mktemp("fp32")), CoremlOptions())


@pytest.mark.parametrize("output", list(OutputKind))
def test_the_saved_package_computes_the_networks_own_output(tmp_path, output, converted):
    lines: list[str] = []
    package = exported(Job(tiny.request(output=output), tmp_path, say=lines.append), CoremlOptions(image=False))
    artifact, engine = open_artifact(package)
    frame = drawn_frame((32, 48), 5)[None]
    found = ReferenceSession(engine, output).run(frame)
    assert found.shape == artifact.output.shape
    assert found.dtype == artifact.output.dtype
    with torch.no_grad():
        expected = Normalised(tiny.network(), tiny.SPEC.preprocess, output, False)(torch.from_numpy(frame)).numpy()
    if output is OutputKind.LOW:
        expected = np.moveaxis(expected, 3, 1)
    if output is OutputKind.CLASSES:
        assert np.mean(found == expected) >= 0.9999
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert "fp32 vs torch" in lines[0]
    assert artifact.verification[0].agreement >= 0.9999
    assert artifact.verification[0].control < 0.9


def test_the_runtime_makes_the_same_mask_of_it_as_of_the_onnx_file(fp32, tmp_path):
    frame = drawn_frame((50, 70), 3)
    artifact, engine = open_artifact(fp32)
    mask = Segmenter(artifact, ReferenceSession(engine, artifact.output_kind))(frame).mask
    with Segmenter.open(tiny.artifact(tmp_path, OutputKind.CLASSES)) as onnx:
        assert np.mean(mask == onnx(frame).mask) > 0.9999


def test_the_package_says_what_it_is_to_xcode_and_to_us(fp32):
    description = read_package(fp32).description.description
    metadata = description.metadata
    assert metadata.userDefined["com.apple.coreml.model.preview.type"] == "imageSegmenter"
    assert "UNTRAINED" in metadata.shortDescription
    assert metadata.license == "Apache-2.0"
    assert metadata.author
    assert metadata.versionString
    embedded = json.loads(metadata.userDefined[OURS])
    beside = json.loads(fp32.with_name(f"{fp32.name}.json").read_text("utf-8"))
    assert embedded["sha256"] == ""
    assert (embedded["classes"], embedded["name"]) == (beside["classes"], beside["name"])
    assert beside["details"]["executed"] == "reference evaluator, never Core ML"
    assert beside["details"]["operations"]["conv"] == 4


@pytest.mark.parametrize("image", [True, False])
def test_the_session_finds_in_the_package_what_its_json_says(tmp_path, image, converted):
    package = exported(Job(tiny.request(output=OutputKind.CLASSES), tmp_path), CoremlOptions(image=image))
    artifact, _ = open_artifact(package)
    description = read_package(package).description.description
    hold_against_engine(artifact, *ports(description, tensor=not image))
    with pytest.raises(UserError, match="do not belong together"):
        hold_against_engine(artifact, *ports(description, tensor=image))


def test_two_exports_are_byte_identical(fp32, tmp_path):
    again = exported(Job(tiny.request(output=OutputKind.CLASSES), tmp_path), CoremlOptions())
    files = sorted(p.relative_to(fp32) for p in fp32.rglob("*") if p.is_file())
    assert [p.as_posix() for p in files] == [
        "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json"]
    assert engine_sha256(again) == engine_sha256(fp32)


def test_an_export_replaces_an_older_one(tmp_path, converted):
    older = exported(Job(tiny.request(output=OutputKind.CLASSES), tmp_path), CoremlOptions())
    newer = exported(Job(tiny.request(output=OutputKind.CLASSES), tmp_path), CoremlOptions("iOS18"))
    assert older == newer
    assert open_artifact(newer)[0].details["opset"] == "CoreML8"
    assert sorted(p.name for p in tmp_path.iterdir()) == [newer.name, f"{newer.name}.json"]


def test_a_package_of_other_weights_fails_the_gate_and_leaves_nothing(tmp_path, monkeypatch):
    right = exporter.model_from_torch

    def wrong(wanted, options):
        wanted.network.classifier.weight.data = wanted.network.classifier.weight.data.flip(0)
        return right(wanted, options)

    monkeypatch.setattr(exporter, "model_from_torch", wrong)
    wanted = tiny.request(output=OutputKind.CLASSES)
    reference = tiny.request(output=OutputKind.CLASSES)
    verifier = exporter.torch_verifier(reference, None)
    monkeypatch.setattr(exporter, "torch_verifier", lambda *_: verifier)
    with pytest.raises(GateFailed, match="fp32 vs torch"):
        exported(Job(wanted, tmp_path / "out"), CoremlOptions())
    assert not (tmp_path / "out").exists()


def test_a_float16_overflow_is_named(tmp_path, monkeypatch):
    wanted = tiny.request(output=OutputKind.CLASSES, precision="fp16")
    wanted.network.down[0].weight.data *= 1e6
    wanted.network.classifier.weight.data /= 1e6
    with pytest.raises(GateFailed, match="beyond float16's 65504"):
        exported(Job(wanted, tmp_path), CoremlOptions())


SMALLER = {"int8": {"quantize", "dequantize", "constexpr_affine_dequantize"}, "w8": {"constexpr_affine_dequantize"},
           "palette4": {"constexpr_lut_to_dense"}, "palette6": {"constexpr_lut_to_dense"}}


@pytest.mark.parametrize("precision", SMALLER)
@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_a_smaller_package_is_read_back_as_coremltools_decompresses_it(tmp_path, photos, monkeypatch, precision,
                                                                       target, converted):
    """Palettes and 4- and 6-bit indices are stored differently from iOS18 on; both are read from the file."""
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    monkeypatch.setattr(exporter, "LOSSY_AGREEMENT", 0.5)
    monkeypatch.setattr(exporter, "FP16", exporter.Gate(agreement=0.9))
    package = exported(Job(tiny.request(output=OutputKind.LOGITS, precision=precision), tmp_path, calibration=photos,
                           allow_few=True), CoremlOptions(target))
    artifact, _ = open_artifact(package)
    named = {"constexpr_affine_dequantize": "constexpr_blockwise_shift_scale"} if target == "iOS18" else {}
    assert {named.get(kind, kind) for kind in SMALLER[precision]} <= set(artifact.details["operations"])
    assert [check.step for check in artifact.verification] == ["fp16 vs torch", f"{precision} vs torch"]
    assert bool(artifact.calibration) == (precision == "int8")
    plain = cto.decompress_weights(ct.models.MLModel(str(package), skip_model_load=True))
    plain.save(str(tmp_path / "plain.mlpackage"))
    frame = drawn_frame((32, 48), 5)[None]
    both = [ReferenceSession(p, OutputKind.LOGITS).run(frame) for p in (package, tmp_path / "plain.mlpackage")]
    np.testing.assert_array_equal(*both)


def test_activation_scales_in_the_package_are_our_ranges_by_127(tmp_path, photos, monkeypatch, converted):
    monkeypatch.setattr(exporter, "LOSSY_AGREEMENT", 0.5)
    monkeypatch.setattr(exporter, "FP16", exporter.Gate(agreement=0.9))
    given = {}
    right = coreml_quantize.activation_ranges
    monkeypatch.setattr(coreml_quantize, "activation_ranges",
                        lambda *a: given.setdefault("ranges", right(*a)))
    package = exported(Job(tiny.request(output=OutputKind.CLASSES, precision="int8"), tmp_path, calibration=photos,
                           allow_few=True), CoremlOptions())
    program = read_package(package)
    values = {op.outputs[0][0]: op.arguments["val"][0] for op in program.operations if op.kind == "const"}
    scales = {op.arguments["input"][0]: float(values[op.arguments["scale"][0]]) for op in program.operations
              if op.kind == "quantize"}
    known = {name: max(abs(low), abs(high)) for name, (low, high) in given["ranges"].items()}
    compared = [name for name in scales if name in known]
    assert len(compared) >= 3
    for name in compared:
        assert scales[name] * 127 == pytest.approx(known[name], rel=2e-3)  # float16


def written(kind: str, name: str, *read: str, weight: tuple[int, ...] = ()) -> tuple[Operation, ...]:
    given = {str(i): (each,) for i, each in enumerate(read)} | ({"weight": (f"{name}_w",)} if weight else {})
    constant = Operation("const", {}, ((f"{name}_w", TensorType("FLOAT16", weight)),))
    return (*([constant] if weight else []), Operation(kind, given, ((name, TensorType("FLOAT16", (1, 8, 4, 4))),)))


@pytest.mark.parametrize(("behind", "weight", "found"), [
    (written("sigmoid_hard", "g", "a") + written("mul", "x", "a", "g"), (8, 1, 3, 3), ["a", "d"]),
    (written("relu", "x", "a"), (8, 8, 3, 3), []),
    (written("conv", "p", "a", weight=(8, 8, 1, 1)) + written("relu", "x", "p"), (8, 1, 3, 3), []),
    (written("add", "x", "a", "image"), (8, 1, 3, 3), []),
])
def test_the_first_convolution_and_a_depthwise_one_right_behind_it_stay_in_float(behind, weight, found):
    first, last = written("conv", "a", "image", weight=(8, 3, 3, 3)), written("conv", "d", "x", weight=weight)
    operations = (*written("cast", "image", "frame"), *first, *behind, *last)
    assert coreml_quantize.spared(MilProgram({}, (), operations, "CoreML7", None), {}) == found


@pytest.mark.parametrize(("reaches", "found"), [(70.0, []), (90.0, ["r", "d"])])
def test_what_reads_a_join_of_very_different_ranges_stays_in_float(reaches, found):
    join = Operation("concat", {"values": ("p", "q")}, (("x", TensorType("FLOAT16", (1, 16, 4, 4))),))
    operations = (*written("relu", "p", "image"), *written("relu", "q", "image"), join, *written("relu", "r", "x"),
                  *written("conv", "d", "r", weight=(8, 16, 1, 1)), *written("relu", "after", "d"))
    ranges = {"p": (-reaches, 3.0), "q": (0.0, 10.0)}
    assert coreml_quantize.spared(MilProgram({}, (), operations, "CoreML7", None), ranges) == found


@pytest.mark.parametrize(("found", "usable"), [
    ((0.0, 0.0), (-1e-4, 1e-4)), ((-1e9, 3.0), (-65504.0, 3.0)), ((-2.0, 3.0), (-2.0, 3.0))])
def test_ranges_have_a_float16_scale(found, usable):
    assert coreml_quantize._usable(*found) == usable


@pytest.mark.parametrize("change", ["removed", "other parameters", "ignored"])
def test_a_coremltools_without_the_seam_is_named(monkeypatch, change):
    from coremltools.optimize.coreml import _post_training_quantization as module

    if change == "removed":
        monkeypatch.delattr(module, coreml_quantize.SEAM[1])
    elif change == "other parameters":
        monkeypatch.setattr(module, coreml_quantize.SEAM[1], lambda model, data: {})
    with pytest.raises(UserError, match=r"coremltools 9\.0 .*--precision w8"), coreml_quantize._ranges_given({}):
        pass


@pytest.mark.parametrize(("options", "given", "message"), [
    (CoremlOptions(), False, "needs frames"), (CoremlOptions("iOS16"), False, "iOS17 on"),
    (CoremlOptions(), True, "holds 4 images")])
def test_int8_without_what_it_needs_is_refused_before_any_work(tmp_path, photos, options, given, message):
    with pytest.raises(UserError, match=message):
        exported(Job(tiny.request(precision="int8"), tmp_path / "out", calibration=photos if given else None), options)
    assert not (tmp_path / "out").exists()


def test_the_budget_refuses_a_package_that_loses_too_much(tmp_path, converted):
    tiny.labelled(tmp_path)
    lines: list[str] = []
    wanted = tiny.request(output=OutputKind.CLASSES)
    exported(Job(wanted, tmp_path / "out", data=tmp_path, say=lines.append), CoremlOptions())
    assert "lost +0.00 points" in lines[-1]
    with pytest.raises(GateFailed, match="points of mIoU"):
        exported(Job(wanted, tmp_path / "refused", data=tmp_path, max_drop=-1.0), CoremlOptions())
    assert not (tmp_path / "refused").exists()


def test_inspection_lists_operations_and_says_that_only_a_mac_knows_more(fp32):
    from export.coreml.inspect import inspected

    lines = inspected(fp32)
    assert lines[0].startswith(f"{fp32.name}: 0.0 MB, CoreML7")
    assert "     4  conv" in lines
    assert "only a Mac can report" in lines[-1]


def test_the_last_line_says_where_the_weights_come_from_and_their_terms(tmp_path, capsys, monkeypatch):
    record = {"source": "ours", "sha256": "", "trained": True, "terms": "research only"}
    monkeypatch.setattr("export.command.request", lambda name, *, weights, classes, size, **options:
                        dataclasses.replace(tiny.request(**options), weights=record))
    assert command.main(["tiny", "--precision", "fp32", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(", weights ours (research only)")
