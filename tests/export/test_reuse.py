from __future__ import annotations

import dataclasses

import pytest
import torch

from export.onnx import build
from export.reuse import fingerprint, unchanged
from runtime.artifact import OutputKind, json_path
from tests import tiny


def test_an_untouched_export_is_reused_and_a_damaged_one_is_not(tmp_path):
    path = build(tiny.request(), tmp_path)
    assert unchanged(path, tiny.request(), None)
    assert not unchanged(tmp_path / "other.onnx", tiny.request(), None)
    path.write_bytes(path.read_bytes()[:-1])
    assert not unchanged(path, tiny.request(), None)
    json_path(path).unlink()
    assert not unchanged(path, tiny.request(), None)


def one_weight_moved():
    wanted = tiny.request()
    with torch.no_grad():
        wanted.network.classifier.bias[3] += 1e-3
    return wanted


def another_size():
    wanted = tiny.request()
    return dataclasses.replace(wanted, spec=dataclasses.replace(
        wanted.spec, preprocess=dataclasses.replace(wanted.spec.preprocess, size=(32, 40))))


def another_stride():
    wanted = tiny.request()
    wanted.network.down[0].stride = (1, 1)
    return wanted


@pytest.mark.parametrize("changed", [one_weight_moved, another_size, another_stride,
                                     lambda: tiny.request(output=OutputKind.CLASSES),
                                     lambda: tiny.request(precision="fp16"), lambda: tiny.request(dynamic=True)])
def test_whatever_changes_the_file_changes_the_fingerprint(changed):
    assert fingerprint(tiny.request(), None) == fingerprint(tiny.request(), None) != fingerprint(changed(), None)


def test_other_frames_to_verify_on_change_the_fingerprint(tmp_path):
    tiny.picture(tmp_path / "a.png")
    first = fingerprint(tiny.request(), tmp_path)
    tiny.picture(tmp_path / "b.png")
    assert fingerprint(tiny.request(), tmp_path) != first
