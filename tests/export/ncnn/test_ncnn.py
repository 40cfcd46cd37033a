"""export.ncnn: the folder computes what the network does from a raw frame, and what cannot be is refused by name."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from calibration.data.frames import drawn_frame
from export import ncnn
from export.target import Job
from runtime.artifact import OutputKind, open_artifact
from runtime.errors import GateFailed, UserError
from runtime.segmenter import Segmenter
from runtime.sessions.ncnn import BIN, PARAM, NcnnSession
from tests import tiny

if hindrance := ncnn.TARGET.hindrance():
    pytest.skip(hindrance, allow_module_level=True)

from export.ncnn import convert, exporter, quantise

FRAME = drawn_frame((32, 48), 5)[None]
EXPECTED = np.moveaxis(tiny.logits(FRAME), 3, 1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Precision → the tiny network's folder, converted once."""
    @functools.cache
    def of(precision):
        folder = tmp_path_factory.mktemp(precision) / "ncnn"
        convert.ncnn_from_torch(tiny.request(precision=precision), folder)
        return folder
    return of


@pytest.fixture
def artifact(converted, monkeypatch, tmp_path):
    """Export without converting again; takes a precision and fields of `Job`."""
    monkeypatch.setattr(exporter, "ncnn_from_torch",
                        lambda wanted, folder: shutil.copytree(converted(wanted.precision), folder))
    return lambda precision="fp32", **options: exporter.exported(
        Job(tiny.request(precision=precision), tmp_path / "out", **options))


def test_ncnn_computes_the_networks_own_output_from_a_raw_frame(artifact):
    lines: list[str] = []
    made, path = open_artifact(artifact(say=lines.append))
    session = NcnnSession(path)
    found = session.run(FRAME)
    assert (made.output.layout, made.output.shape, found.dtype) == ("NCHW", found.shape, np.float32)
    np.testing.assert_allclose(found, EXPECTED, atol=1e-4)
    session.run(255 - FRAME)
    session.close()
    session.close()
    np.testing.assert_allclose(found, EXPECTED, atol=1e-4)  # its memory is its own, and no pool's
    assert path.name == "tiny-32x48-fp32.ncnn"
    assert sorted(entry.name for entry in path.iterdir()) == [BIN, PARAM]
    assert lines[0].startswith("ncnn vs torch: 100.0000%")
    assert made.verification[0].control < 0.9
    assert made.details["layers"]["Convolution"] == 3
    assert "planes" in made.details["in_the_session"]


def test_the_runtime_makes_the_same_mask_of_it_as_of_the_onnx_file(artifact, tmp_path):
    frame = drawn_frame((50, 70), 3)
    with Segmenter.open(artifact()) as ours, Segmenter.open(tiny.artifact(tmp_path)) as onnx:
        assert np.mean(ours(frame).mask == onnx(frame).mask) > 0.9999


def test_a_network_with_other_weights_fails_the_gate_and_leaves_nothing(artifact, monkeypatch, tmp_path):
    wanted = dataclasses.replace(tiny.request(), network=tiny.network(2))
    monkeypatch.setattr(tiny, "request", lambda precision: wanted)
    with pytest.raises(GateFailed, match="ncnn vs torch"):
        artifact()
    assert not (tmp_path / "out").exists()


def test_float16_weights_halve_the_file_and_keep_every_pixel(artifact):
    made, path = open_artifact(artifact("fp16"))
    assert made.verification[-1].agreement >= 0.998
    assert (path / BIN).stat().st_size < 0.6 * (open_artifact(artifact())[1] / BIN).stat().st_size


def test_a_folder_that_loses_too_much_is_refused_with_the_figure(artifact, tmp_path):
    tiny.labelled(tmp_path)
    with pytest.raises(GateFailed, match="points of mIoU"):
        artifact(data=tmp_path, max_drop=-1.0)
    assert not list((tmp_path / "out").glob("*"))
    assert open_artifact(artifact(data=tmp_path))[0].details["accuracy"]["engine"] == "ncnn"


def test_full_size_logits_come_as_planes_too(tmp_path):
    made, path = open_artifact(exporter.exported(Job(tiny.request(output=OutputKind.LOGITS), tmp_path)))
    assert NcnnSession(path).run(FRAME).shape == made.output.shape == (1, 11, 32, 48)


class Unknown(tiny.TinyNetwork):
    """With an operator that ncnn has no layer for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cummax(super().forward(x), 2).values


def test_an_operator_that_ncnn_does_not_have_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ncnn has no aten::cummax, .*which tiny uses.*export\.onnx"):
        convert.ncnn_from_torch(dataclasses.replace(tiny.request(), network=Unknown().eval()), tmp_path / "ncnn")


def test_a_converter_that_ends_without_a_result_is_quoted(tmp_path, monkeypatch):
    import pnnx

    monkeypatch.setattr(pnnx, "EXEC_PATH", "false")
    with pytest.raises(UserError, match=r"pnnx refuses tiny \(exit code 1\)"):
        convert.ncnn_from_torch(tiny.request(), tmp_path / "ncnn")


def test_a_folder_without_its_weights_is_refused(converted, tmp_path):
    folder = shutil.copytree(converted("fp32"), tmp_path / "ncnn")
    (folder / BIN).unlink()
    with pytest.raises(UserError, match="ncnn cannot load"):
        NcnnSession(folder)


def test_two_conversions_are_byte_identical(converted, tmp_path):
    convert.ncnn_from_torch(tiny.request(), tmp_path / "again")
    for name in (PARAM, BIN):
        assert (tmp_path / "again" / name).read_bytes() == (converted("fp32") / name).read_bytes()


def test_a_machine_without_the_converter_is_told_what_to_install(monkeypatch, tmp_path):
    from runtime import sessions

    monkeypatch.setattr(sessions, "installed", lambda packages: dict.fromkeys(set(packages) - {"pnnx"}, "1"))
    with pytest.raises(UserError, match=r"pnnx not installed: pip install 'edgeseg\[ncnn-export\]'"):
        ncnn.build(Job(tiny.request(), tmp_path))


@pytest.fixture
def photos(tmp_path):
    """A folder of four drawn frames."""
    (tmp_path / "photos").mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), drawn_frame((40, 60), index))
    return tmp_path / "photos"


def test_int8_has_our_ranges_and_a_quarter_of_the_weights(artifact, photos, converted, monkeypatch):
    lines, given = [], {}
    right = quantise.observed
    monkeypatch.setattr(quantise, "observed", lambda *a: given.setdefault("seen", right(*a)))
    made, path = open_artifact(artifact("int8", calibration=photos, allow_few=True, say=lines.append))
    layers = [layer for layer in quantise.layers_of(path) if layer.kind in quantise.INTEGER]
    assert len(layers) == 4
    stored = np.frombuffer((path / BIN).read_bytes(), np.float32)
    for layer in layers:
        assert layer.values["8"] != "0"
        assert np.float32(127 / quantise.METHODS["mse"](given["seen"][layer.reads[0]])) in stored
    assert (path / BIN).stat().st_size < 0.5 * (converted("fp32") / BIN).stat().st_size
    assert [check.step for check in made.verification] == ["ncnn vs torch", "equalised vs torch", "int8 vs torch"]
    assert made.verification[2].agreement < 1  # it did compute in integers
    assert made.calibration["frames"] == 4
    assert any(line.startswith("INT8 ") for line in lines)


def test_int8_without_frames_is_refused_before_any_work(artifact, tmp_path):
    with pytest.raises(UserError, match="--calibration DIR"):
        artifact("int8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("line", "message"), [
    ("PReLU extra 1 1 out0 out1 0=4", r"does not support weights as PReLU stores them \(extra\)"),
    ("MemoryData extra 0 1 out1 0=4", "values, its layers account for")])
def test_weights_of_another_form_are_no_ground_for_int8(converted, tmp_path, line, message):
    folder = shutil.copytree(converted("fp32"), tmp_path / "ncnn")
    with (folder / PARAM).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message):
        quantise.int8_from_float(folder, quantise.observed(converted("fp32"), [FRAME]), tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


def test_a_session_that_nobody_closes_ends_without_a_crash(converted):
    code = (f"from pathlib import Path; from runtime.sessions.ncnn import NcnnSession\n"
            f"import numpy as np; s = NcnnSession(Path({str(converted('fp32'))!r}), threads=1)\n"
            "s.run(np.zeros((1, 32, 48, 3), np.uint8)); print('done')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "done", "")
