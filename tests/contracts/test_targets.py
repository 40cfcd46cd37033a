"""What every target and every engine promises to everybody else; a new one is held to it by lying in its folder."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.data.frames import drawn_frame
from export.build import build
from export.target import HOST, Job, Judged, judged, packages, reopen, target, targets
from runtime.artifact import Artifact, OutputKind, open_artifact
from runtime.errors import UserError
from runtime.segmenter import Segmenter
from runtime.sessions import engine_for, engines, readers
from tests import tiny

ROOT = Path(__file__).parent.parent.parent
BUILDABLE = [name for name, entry in targets().items() if not entry.hindrance()]


def test_targets_and_engines_are_listed_without_importing_anything_heavy():
    code = ("import sys; from export.target import targets; from runtime.sessions import engines\n"
            "targets(), engines()\n"
            "print(sorted({'torch', 'onnx', 'onnxruntime', 'openvino', 'coremltools', 'tensorrt', 'tensorrt_rtx',"
            " 'cv2', 'ai_edge_litert', 'litert_torch', 'ncnn', 'pnnx', 'executorch'} & set(sys.modules)))")
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


@pytest.mark.parametrize("name", targets())
def test_a_targets_room_has_a_command_and_everything_that_the_others_ask_for(name):
    package, entry = packages()[name], target(name)
    assert callable(package.build)
    assert callable(package.reopen)
    assert (ROOT / "export" / name / "__main__.py").is_file()
    assert callable(importlib.import_module(f"export.{name}.__main__").main)
    assert entry.title
    assert entry.ending.startswith(".")
    assert entry.source in {"torch", *targets()} - {name}
    assert {"fp32"} <= set(entry.precisions)
    assert set(entry.outputs) <= {kind.value for kind in OutputKind}
    assert not set(entry.packages) & set(HOST)


@pytest.mark.parametrize("name", engines())
def test_an_engine_reads_what_a_target_makes_and_is_the_first_to_be_asked_for_its_own(name):
    entry = engines()[name]
    assert entry.title
    assert entry.reads
    assert set(entry.reads) <= set(targets())
    assert entry.packages or entry.one_of
    if name in targets():
        assert readers(name)[0] == name


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Target → the tiny network's float32 artifact with low-resolution logits, each built once."""
    made: dict[str, Path] = {}

    def artifact_of(name: str) -> tuple[Artifact, Path]:
        if name not in made:
            made[name] = build(name, Job(tiny.request(), tmp_path_factory.mktemp(name.replace("-", "_"))))
        return open_artifact(made[name])

    return artifact_of


def test_an_engine_that_reads_other_files_is_refused_with_those_that_do(built):
    artifact, _ = built("onnx")
    assert engine_for(artifact) == "onnx"
    assert engine_for(artifact, "openvino") == "openvino"
    with pytest.raises(UserError, match=r"--engine coreml does not read .*; expected onnx or openvino"):
        engine_for(artifact, "coreml")
    with pytest.raises(UserError, match=r"the artifact's target is 'papyrus'; this runtime opens .*onnx"):
        engine_for(dataclasses.replace(artifact, target="papyrus"))
    with pytest.raises(UserError, match="no target 'papyrus'"):
        target("papyrus")


@pytest.mark.parametrize("name", BUILDABLE)
def test_every_target_builds_the_same_network_and_what_can_be_judged_here_gives_its_masks(name, built):
    reference, onnx_path = built("onnx")
    artifact, path = built(name)
    assert (artifact.target, artifact.precision, artifact.output_kind) == (name, "fp32", OutputKind.LOW)
    assert path.name.endswith(target(name).ending)
    assert artifact.details["fingerprint"]
    assert artifact.verification
    session = reopen(artifact, path)
    assert (session is None) == (judged(name) is Judged.BUILT)
    if session is not None:
        frame = drawn_frame((50, 70), 3)
        with Segmenter(artifact, session) as segmenter, Segmenter.open(onnx_path) as expected:
            assert np.mean(segmenter(frame).mask == expected(frame).mask) >= 0.9999
        assert reference.classes == artifact.classes
