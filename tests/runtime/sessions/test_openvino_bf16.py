"""bfloat16 is an engine of its own: asked for by name, refused with the reason where the processor lacks it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.data.frames import drawn_frame
from runtime import Segmenter
from runtime.artifact import open_artifact
from runtime.errors import UserError
from runtime.sessions import engines, open_session, openvino_bf16
from tests import tiny

pytest.importorskip("openvino")
HINDRANCE = engines()["openvino-bf16"].hindrance()


def test_a_processor_without_bfloat16_is_named_and_no_other_arithmetic_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_bf16, "capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(UserError, match=r"no bfloat16 \(OpenVINO computes here in FP32, INT8\)\. Try: --engine openv"):
        Segmenter.open(tiny.artifact(tmp_path), engine="openvino-bf16")
    assert "no bfloat16" in engines()["openvino-bf16"].hindrance()
    monkeypatch.setattr(openvino_bf16, "capabilities", lambda: ["FP32", "BF16", "INT8"])
    assert engines()["openvino-bf16"].hindrance() == ""


def test_an_int8_file_with_bfloat16_between_is_refused_with_the_same_reason(tmp_path, monkeypatch):
    artifact, path = open_artifact(tiny.artifact(tmp_path))
    int8 = dataclasses.replace(artifact, precision="int8", integers="unsigned")
    monkeypatch.setattr(openvino_bf16, "capabilities", lambda: ["FP32", "INT8"])
    with pytest.raises(UserError, match="openvino-bf16 was asked for, and this processor has no bfloat16"):
        open_session(int8, path, engine="openvino-bf16")


def test_the_engine_is_asked_for_bfloat16_and_for_the_threads(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(openvino_bf16, "capabilities", lambda: ["BF16"])
    monkeypatch.setattr(openvino_bf16, "OpenvinoSession", lambda path, **options: asked.append(options) or _Silent())
    monkeypatch.setattr(openvino_bf16, "hold_against_engine", lambda *_: None)
    Segmenter.open(tiny.artifact(tmp_path), engine="openvino-bf16", threads=1)
    assert asked == [{"threads": 1, "arithmetic": "bf16"}]


class _Silent:
    def ports(self):
        return [], []


@pytest.mark.skipif(bool(HINDRANCE), reason=HINDRANCE)
def test_masks_are_those_of_float32_but_for_what_eight_bits_of_mantissa_decide_otherwise(tmp_path):
    path, frame = tiny.artifact(tmp_path), drawn_frame((64, 96), 3)
    with Segmenter.open(path) as exact, Segmenter.open(path, engine="openvino-bf16") as rounded:
        agreement = np.mean(exact(frame).mask == rounded(frame).mask)
    assert agreement >= 0.98
