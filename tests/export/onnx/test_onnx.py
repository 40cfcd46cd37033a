from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from calibration.data.frames import drawn_frame
from export import reference
from export.build import build
from export.request import request
from export.target import Job
from export.wrapper import Normalised
from runtime.artifact import OutputKind, open_artifact
from runtime.errors import GateFailed, UserError
from runtime.segmenter import Segmenter
from tests import tiny


@pytest.mark.parametrize("output", list(OutputKind))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_artifact_alone_gives_the_networks_own_mask(tmp_path, output, precision):
    path = (tiny.artifact(tmp_path, output) if precision == "fp32" else
            build("onnx", Job(tiny.request(output=output, precision=precision), tmp_path)))
    frame = drawn_frame((50, 70), 3)  # not the network's size
    with Segmenter.open(path) as segmenter:
        mask = segmenter(frame).mask
        resized = segmenter.artifact.preprocess(frame)
    assert mask.shape == (50, 70)
    logits = Normalised(tiny.network(), tiny.SPEC.preprocess, OutputKind.LOW, False)(torch.from_numpy(resized))
    logits = logits.permute(0, 3, 1, 2)
    if output is not OutputKind.LOW:
        logits = functional.interpolate(logits, size=(32, 48), mode="bilinear")
    if output is OutputKind.CLASSES:  # a finished class map is brought to frame size pixel by pixel
        rows, columns = (np.floor((np.arange(n) + 0.5) * m / n).astype(int) for n, m in ((50, 32), (70, 48)))
        expected = logits.argmax(1)[0][rows][:, columns]
    else:
        expected = functional.interpolate(logits, size=(50, 70), mode="bilinear").argmax(1)[0]
    assert np.mean(mask == expected.numpy()) > (0.9999 if precision == "fp32" else 0.995)


def test_two_exports_are_byte_identical(tmp_path):
    first = tiny.artifact(tmp_path / "a").read_bytes()
    assert build("onnx", Job(tiny.request(), tmp_path / "b")).read_bytes() == first
    assert str(tmp_path).encode() not in first


def test_the_json_says_what_was_verified_and_that_the_weights_are_random(tmp_path):
    artifact, engine = open_artifact(tiny.artifact(tmp_path))
    assert [check.step for check in artifact.verification] == [
        "onnx vs torch", "simplified vs torch", "rewritten vs torch"]
    assert all(check.agreement >= 0.9999 and check.max_abs <= 1e-3 for check in artifact.verification)
    assert all(check.control < 0.9 for check in artifact.verification)
    assert artifact.weights["trained"] is False
    assert (artifact.input.shape, artifact.output.shape) == ((1, 32, 48, 3), (1, 8, 12, 11))
    assert engine.name == "tiny-32x48-fp32.onnx"


def test_a_failed_gate_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("export.onnx.simplify.simplified", lambda model: tiny.flipped(model, "classifier.weight"))
    with pytest.raises(GateFailed, match="simplified vs torch"):
        build("onnx", Job(tiny.request(), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_dynamic_graph_takes_other_sizes(tmp_path):
    path = build("onnx", Job(tiny.request(dynamic=True), tmp_path))
    artifact, engine = open_artifact(path)
    assert artifact.input.shape == (1, 0, 0, 3)
    from runtime.sessions import open_session
    session = open_session(artifact, engine)
    assert session.run(drawn_frame((64, 40), 0)[None]).shape == (1, 16, 10, 11)


def test_a_size_that_does_not_fit_names_the_nearest_that_does():
    with pytest.raises(UserError, match=r"multiples of 8\. Try: --size 104x200"):
        request("lraspp", weights="none", size=(101, 203))


def test_frames_come_from_the_folder_evenly(tmp_path):
    for index in range(40):
        tiny.picture(tmp_path / f"{index:02d}.png")
    names = [name for name, _ in reference.verification_frames(tiny.SPEC.preprocess, tmp_path)]
    assert len(names) == reference.MAX_FRAMES
    assert (names[0], names[-1]) == ("00.png", "39.png")


def test_the_class_count_of_the_request_reaches_the_graph(tmp_path):
    wanted = tiny.request()
    five = dataclasses.replace(wanted.spec, classes=dataclasses.replace(
        wanted.spec.classes, names=wanted.spec.classes.names[:5], palette=wanted.spec.classes.palette[:5]))
    torch.manual_seed(0)
    network, control = tiny.TinyNetwork(5).eval(), tiny.TinyNetwork(5).eval()
    path = build("onnx", Job(dataclasses.replace(wanted, spec=five, network=network, control=control), tmp_path))
    assert open_artifact(path)[0].output.shape[-1] == len(open_artifact(path)[0].classes) == 5
