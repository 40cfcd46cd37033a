"""A damaged JSON is refused: for its types and ranges, for contradicting itself, or for contradicting its engine."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from runtime import sessions
from runtime.artifact import OutputKind, from_json, json_path, open_artifact, to_json
from runtime.errors import UserError
from runtime.sessions import open_session
from tests import colours

DAMAGE = [
    ("classes", ["a", "b"]), ("classes", []), ("classes", ["a", "a", "b"]), ("classes", ["a", "", "b"]),
    ("classes", ["a", "b\n", "c"]), ("classes", "abc"), ("classes", ["a"]), ("classes", [f"{n}" for n in range(256)]),
    ("palette", []), ("palette", [[999, 999, 999]] * 3), ("palette", [[0, 0]] * 3), ("palette", [[-1, 0, 0]] * 3),
    ("palette", [[1.5, 0, 0]] * 3), ("palette", [[0, 0, 0]] * 2),
    ("output.layout", None), ("output.layout", "NCHW"), ("output.layout", "NHW"), ("output.layout", "nhwc"),
    ("output.dtype", "uint8"), ("output.dtype", "float16"), ("output.shape", [1, 4, 12, 4]), ("output.shape", []),
    ("output.shape", [1, 4, 12]), ("output.shape", [2, 4, 12, 3]), ("output.shape", [1, 8, 12, 3]),
    ("output.name", ""), ("output_kind", "logits"), ("output_kind", "classes"), ("output_kind", None),
    ("input.shape", [float("nan")]), ("input.shape", [1, 16, 48, 4]), ("input.shape", [1, 16, 0, 3]),
    ("input.shape", [1, 3, 16, 48]), ("input.shape", [1, -16, -48, 3]), ("input.dtype", "float32"),
    ("input.layout", "NCHW"), ("align_corners", "x"), ("align_corners", 0), ("align_corners", None),
    ("stride", 1e308), ("stride", 0), ("stride", -4), ("stride", 4.0), ("stride", True), ("stride", 8),
    ("precision", -1), ("precision", ""), ("precision", "fp32\n"), ("target", ""), ("target", "../trt"),
    ("target", None), ("sha256", -1), ("sha256", ""), ("sha256", "AB" * 32), ("sha256", "ab" * 31),
    ("sha256", "ab" * 32 + "\n"), ("file", 1e308), ("file", "colours.onnx\n"), ("file", "x" * 10_000),
    ("file", {}), ("file", ""), ("file", "a/b.onnx"), ("file", "..\\b.onnx"),
    ("preprocess.size", [16, 47]), ("preprocess.size", [0, 0]), ("preprocess.size", "16x48"),
    ("preprocess.mean", [0, 0]), ("preprocess.mean", ["0", 0, 0]), ("preprocess.std", [0, 1, 1]),
    ("preprocess.std", [1, 1, 1e309]), ("preprocess.colour_order", "gbr"), ("preprocess.interpolation", "cubic"),
    ("weights", {}), ("weights.trained", "no"), ("weights.sha256", "zz"), ("tools", {"onnx": 1}),
    ("verification", [{}]), ("verification", {}), ("calibration", []), ("details", None), ("name", ""), ("name", 7),
    ("format", True), ("format", 1.0), ("format", "1"), ("format", 3),
]
"""What tries from outside had accepted, or had seen end in a traceback, and what is like it."""


def changed(values: dict, place: str, value: object) -> dict:
    result = copy.deepcopy(values)
    *folders, last = place.split(".")
    part = result
    for folder in folders:
        part = part[folder]
    part[last] = value
    return result


@pytest.fixture
def spoilt(artifact, tmp_path):
    """Puts a changed JSON beside a copy of the engine."""
    engine = Path(shutil.copy(artifact, tmp_path))
    values = json.loads(json_path(artifact).read_text(encoding="utf-8"))

    def spoil(place: str, value: object) -> Path:
        json_path(engine).write_text(json.dumps(changed(values, place, value)), encoding="utf-8")
        return engine
    return spoil


@pytest.mark.parametrize(("place", "value"), DAMAGE)
def test_damage_is_refused_in_one_line(spoilt, place, value):
    with pytest.raises(UserError) as caught:
        open_artifact(spoilt(place, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_key_that_was_lost_is_not_made_up(spoilt, artifact):
    values = json.loads(json_path(artifact).read_text(encoding="utf-8"))
    places = [*values, *(f"{part}.{key}" for part in ("input", "output", "preprocess", "weights")
                         for key in values[part])]
    for place in places:
        *folders, last = place.split(".")
        kept = {**values, **({folders[0]: dict(values[folders[0]])} if folders else {})}
        del (kept[folders[0]] if folders else kept)[last]
        path = json_path(spoilt("format", 1))
        path.write_text(json.dumps(kept), encoding="utf-8")
        with pytest.raises(UserError, match=re.escape(last)):
            open_artifact(path)


def test_the_hash_is_compared_before_anything_else_is_believed(spoilt):
    engine = spoilt("stride", -1)
    engine.write_bytes(engine.read_bytes() + b"x")
    with pytest.raises(UserError, match="SHA-256"):
        open_artifact(engine)


def test_whole_numbers_in_means_come_back_as_they_were_written(artifact):
    """A TensorRT plan carries a digest of this text, and a user's TOML may say `mean = [0, 0, 0]`."""
    described, _ = open_artifact(artifact)
    described = dataclasses.replace(described, preprocess=dataclasses.replace(described.preprocess, mean=(0, 0.5, 0)))
    assert to_json(from_json(to_json(described))) == to_json(described)


@pytest.fixture(params=["onnx", "openvino"])
def reader(request):
    pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    return request.param


OTHER = [("output.name", "scores", "output out .*scores"), ("input.name", "image", "input frame .*image"),
         ("output.shape", [1, 5, 12, 3], r"\[1, 4, 12, 3\], the JSON beside it out float32 \[1, 5, 12, 3\]"),
         ("input.shape", [1, 0, 0, 3], r"\[1, 16, 48, 3\], .*\[1, 0, 0, 3\]")]


@pytest.mark.parametrize(("place", "value", "message"), OTHER)
def test_an_engine_that_says_otherwise_than_its_json_is_refused(spoilt, reader, place, value, message):
    artifact, engine = open_artifact(spoilt(place, value))
    with pytest.raises(UserError, match=message) as caught:
        open_session(artifact, engine, engine=reader)
    assert "do not belong together" in str(caught.value)


def test_another_number_of_classes_than_the_engines_is_refused(spoilt, reader):
    artifact, engine = open_artifact(spoilt("format", 1))
    more = dataclasses.replace(artifact, classes=("a", "b", "c", "d"), palette=((0, 0, 0),) * 4,
                               output=dataclasses.replace(artifact.output, shape=(1, 4, 12, 4)))
    with pytest.raises(UserError, match=r"\[1, 4, 12, 3\], the JSON beside it out float32 \[1, 4, 12, 4\]"):
        open_session(more, engine, engine=reader)


@pytest.mark.parametrize("output", list(OutputKind))
def test_every_kind_of_output_passes_as_it_was_written(tmp_path, reader, output):
    artifact, engine = open_artifact(colours.artifact(tmp_path, output=output))
    session = open_session(artifact, engine, engine=reader)
    assert session.run(colours.numbered(1)[None]).shape == artifact.output.shape
    session.close()


def test_every_session_holds_the_json_against_its_engine():
    files = list(Path(sessions.__file__).parent.glob("[!_]*.py"))
    assert [path.name for path in files if "hold_against_engine(artifact, " not in path.read_text("utf-8")] == []
