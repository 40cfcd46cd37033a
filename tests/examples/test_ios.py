"""The Swift code cannot be compiled here; what it expects of a package is held against a package of the exporter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from export.coreml.exporter import CoremlOptions, exported
from export.coreml.package import planned
from export.request import request
from export.spec import CAMVID
from export.target import Job
from runtime.artifact import OutputKind
from tests import tiny

SWIFT = Path(__file__).parent.parent.parent / "examples" / "ios"


def constant(name: str) -> str:
    (value,) = re.findall(rf'static let {name} = "([^"]+)"', (SWIFT / "SceneSegmenter.swift").read_text("utf-8"))
    return value


@pytest.fixture(scope="module")
def description(tmp_path_factory):
    from export.coreml.reference import read_package

    wanted = tiny.request(output=OutputKind.CLASSES, precision="fp32")
    return read_package(exported(Job(wanted, tmp_path_factory.mktemp("ios")), CoremlOptions())).description.description


def test_the_model_name_is_that_of_the_default_export():
    wanted = request("lraspp", weights="none", output=OutputKind.CLASSES, precision="fp16")
    assert planned(wanted, "iOS17", image=True).file == f"{constant('modelName')}.mlpackage"
    assert f"out/{constant('modelName')}.mlpackage" in (SWIFT / "README.md").read_text("utf-8")


def test_the_only_input_is_an_image_as_vision_demands(description):
    (source,) = description.input
    assert source.type.WhichOneof("Type") == "imageType"
    assert (source.type.imageType.height, source.type.imageType.width) == tiny.SPEC.preprocess.size


def test_the_output_is_the_int32_class_map_that_the_overlay_reads(description):
    from coremltools.proto import FeatureTypes_pb2

    (result,) = description.output
    assert result.name == constant("outputName")
    array = result.type.multiArrayType
    assert list(array.shape) == [1, *tiny.SPEC.preprocess.size]
    assert array.dataType == FeatureTypes_pb2.ArrayFeatureType.INT32


def test_labels_and_colours_are_under_the_key_and_in_the_form_that_the_code_decodes(description):
    labels = json.loads(description.metadata.userDefined[constant("labelsKey")])
    declared = re.findall(r"let (\w+): \[String\]", (SWIFT / "SceneSegmenter.swift").read_text("utf-8"))
    assert sorted(labels) == sorted(declared)
    assert labels["labels"] == list(CAMVID.names)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in labels["colors"])
    assert labels["colors"][0] == "#4682B4"  # sky: 70, 130, 180


def test_the_camera_asks_for_the_permission_that_the_readme_names():
    assert "requestAccess(for: .video)" in (SWIFT / "Camera.swift").read_text("utf-8")
    assert "NSCameraUsageDescription" in (SWIFT / "README.md").read_text("utf-8")
