from __future__ import annotations

import dataclasses

import pytest
import torch

from export.build import build
from export.reuse import fingerprint, kept
from export.target import Job
from runtime.artifact import OutputKind, json_path
from tests import tiny


def test_an_untouched_export_is_reused_and_a_damaged_one_is_not(tmp_path):
    job = Job(tiny.request(), tmp_path)
    path = tiny.artifact(tmp_path)
    assert kept("onnx", job) == path
    assert kept("coreml", job) is None
    assert kept("onnx", dataclasses.replace(job, out=tmp_path / "elsewhere")) is None
    path.write_bytes(path.read_bytes()[:-1])
    assert kept("onnx", job) is None
    json_path(path).unlink()
    assert kept("onnx", job) is None


def test_a_second_build_says_that_it_uses_the_first_again_unless_it_may_not(tmp_path):
    lines: list[str] = []
    job = Job(tiny.request(), tmp_path, say=lines.append)
    path = tiny.artifact(tmp_path)
    assert build("onnx", job) == path
    assert lines == [f"{path}: unchanged, used again"]
    build("onnx", job, reuse=False)
    assert "onnx vs torch" in lines[1]


def one_weight_moved(folder):
    wanted = tiny.request()
    with torch.no_grad():
        wanted.network.classifier.bias[3] += 1e-3
    return Job(wanted, folder)


def another_size(folder):
    wanted = tiny.request()
    return Job(dataclasses.replace(wanted, spec=dataclasses.replace(
        wanted.spec, preprocess=dataclasses.replace(wanted.spec.preprocess, size=(32, 40)))), folder)


def another_stride(folder):
    wanted = tiny.request()
    wanted.network.down[0].stride = (1, 1)
    return Job(wanted, folder)


@pytest.mark.parametrize("changed", [
    one_weight_moved, another_size, another_stride,
    lambda folder: Job(tiny.request(output=OutputKind.CLASSES), folder),
    lambda folder: Job(tiny.request(precision="fp16"), folder), lambda folder: Job(tiny.request(dynamic=True), folder),
    lambda folder: Job(tiny.request(), folder, max_drop=2.0)])
def test_whatever_changes_the_file_changes_the_fingerprint(changed, tmp_path):
    job = Job(tiny.request(), tmp_path)
    assert fingerprint("onnx", job) == fingerprint("onnx", job) != fingerprint("onnx", changed(tmp_path))
    assert fingerprint("onnx", job) != fingerprint("trt", job)


@pytest.mark.parametrize("which", ["frames", "calibration", "data"])
def test_other_frames_change_the_fingerprint(which, tmp_path):
    tiny.picture(tmp_path / "a.png")
    job = Job(tiny.request(), tmp_path / "out", **{which: tmp_path})
    first = fingerprint("onnx", job)
    tiny.picture(tmp_path / "b.png")
    assert fingerprint("onnx", job) != first
