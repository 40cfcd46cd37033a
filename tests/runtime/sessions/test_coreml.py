"""The Mac's session, as far as it can be checked elsewhere: with stand-ins for Core ML and Pillow."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.artifact import Artifact, OutputKind, TensorInfo
from runtime.errors import UserError
from runtime.preprocess import Preprocess
from runtime.sessions import coreml, open_session

ARTIFACT = Artifact(
    name="tiny", target="coreml", precision="fp16", file="tiny.mlpackage", sha256="",
    input=TensorInfo("image", (1, 1, 2, 3), "uint8", "NHWC"), output=TensorInfo("classes", (1, 1, 2), "uint8", "NHW"),
    output_kind=OutputKind.CLASSES, stride=4, align_corners=False, preprocess=Preprocess((1, 2)), classes=("a", "b"),
    palette=((0, 0, 0), (9, 9, 9)), weights={}, tools={}, details={"input": "image"})
FRAME = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8)  # B, G, R of two pixels


def test_elsewhere_one_line_says_that_core_ml_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(coreml.platform, "system", lambda: "Linux")
    with pytest.raises(UserError, match=r"tiny\.mlpackage runs through Core ML.*Linux.*python -m export\.onnx tiny"):
        open_session(ARTIFACT, tmp_path / "tiny.mlpackage")


def described(picture: tuple[int, int] | None = (1, 2), made: str = "classes") -> SimpleNamespace:
    """A package's description, as coremltools' protobuf has it: a picture (H, W), or None for an array."""
    def array(shape, dtype):
        return SimpleNamespace(shape=shape, dataType=dtype, ArrayDataType=SimpleNamespace(Name=lambda name: name))

    kind = "imageType" if picture else "multiArrayType"
    height, width = picture or (0, 0)
    given = SimpleNamespace(WhichOneof=lambda _: kind, imageType=SimpleNamespace(height=height, width=width),
                            multiArrayType=array([1, 3, 1, 2], "FLOAT32"))
    output = SimpleNamespace(multiArrayType=array([], "INT32"))
    return SimpleNamespace(input=[SimpleNamespace(name="image", type=given)],
                           output=[SimpleNamespace(name=made, type=output)])


@pytest.fixture
def mac(monkeypatch):
    """Stand-ins that note down how they are called."""
    calls: dict[str, object] = {"description": described()}

    class Model:
        def __init__(self, path, compute_units):
            calls.update(path=path, units=compute_units)

        def get_spec(self):
            return SimpleNamespace(description=calls["description"])

        def predict(self, given):
            calls.update(given=given)
            return {"classes": np.array([[[1, 0]]], np.int32)}

    units = SimpleNamespace(ALL="ALL", CPU_ONLY="CPU_ONLY", CPU_AND_GPU="CPU_AND_GPU", CPU_AND_NE="CPU_AND_NE")
    tools = SimpleNamespace(models=SimpleNamespace(MLModel=Model), ComputeUnit=units)
    monkeypatch.setitem(sys.modules, "coremltools", tools)
    monkeypatch.setitem(sys.modules, "PIL", SimpleNamespace(Image=SimpleNamespace(fromarray=lambda a: ("picture", a))))
    monkeypatch.setattr(coreml.platform, "system", lambda: "Darwin")
    return calls


def test_a_bgr_frame_becomes_an_rgb_picture_and_the_class_map_one_byte_a_pixel(mac, tmp_path):
    session = open_session(ARTIFACT, tmp_path / "tiny.mlpackage")
    found = session.run(FRAME)
    assert (found.tolist(), found.dtype) == ([[[1, 0]]], np.uint8)
    kind, picture = mac["given"]["image"]
    assert kind == "picture"
    assert picture.tolist() == [[[3, 2, 1], [6, 5, 4]]]
    assert mac["units"] == "ALL"


def test_a_tensor_package_gets_planar_bgr_floats(mac, tmp_path):
    artifact = dataclasses.replace(ARTIFACT, details={"input": "tensor"})
    mac["description"] = described(picture=None)
    coreml.CoremlSession(tmp_path / "tiny.mlpackage", artifact, "cpu+ne").run(FRAME)
    assert mac["given"]["image"].tolist() == [[[[1, 4]], [[2, 5]], [[3, 6]]]]
    assert mac["units"] == "CPU_AND_NE"


@pytest.mark.parametrize(("description", "message"), [
    (described(picture=(4, 2)), r"input image uint8 \[1, 4, 2, 3\].*\[1, 1, 2, 3\]"),
    (described(picture=None), "input image array"),
    (described(made="scores"), "output scores uint8.*classes uint8")])
def test_a_package_that_says_otherwise_than_its_json_is_refused(mac, tmp_path, description, message):
    mac["description"] = description
    with pytest.raises(UserError, match=message):
        open_session(ARTIFACT, tmp_path / "tiny.mlpackage")


def test_the_environment_chooses_the_units_and_unknown_ones_are_named(mac, tmp_path, monkeypatch):
    monkeypatch.setenv(coreml.UNITS_VARIABLE, "cpu")
    open_session(ARTIFACT, tmp_path / "tiny.mlpackage")
    assert mac["units"] == "CPU_ONLY"
    monkeypatch.setenv(coreml.UNITS_VARIABLE, "npu")
    with pytest.raises(UserError, match=r"'npu'.*all, cpu"):
        open_session(ARTIFACT, tmp_path / "tiny.mlpackage")
