"""export.executorch: the program computes what the network does from a raw frame; what cannot be is refused by name.

Its exporter takes twenty seconds of a core for a tiny network, so that nearly everything here is slow; of the quick
tests, `tests/contracts/test_targets.py` converts once.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from calibration.data.frames import drawn_frame
from export import executorch
from export.executorch import convert, exporter
from export.executorch.quantise import int8_from_float
from export.target import Job
from export.wrapper import traced
from runtime.artifact import open_artifact
from runtime.errors import GateFailed, UserError
from runtime.segmenter import Segmenter
from runtime.sessions.executorch import ExecutorchSession
from tests import tiny

if hindrance := executorch.TARGET.hindrance():
    pytest.skip(hindrance, allow_module_level=True)

FRAME = drawn_frame((32, 48), 5)[None]
EXPECTED = np.moveaxis(tiny.logits(FRAME), 3, 1)


@pytest.fixture(scope="module")
def converted():
    """The tiny network's program."""
    return convert.program_from_torch(tiny.request())


@pytest.fixture
def artifact(converted, monkeypatch, tmp_path):
    """Export without converting again; takes fields of `Job`."""
    monkeypatch.setattr(exporter, "program_from_torch", lambda wanted: converted)
    return lambda **options: exporter.exported(Job(tiny.request(), tmp_path / "out", **options))


@pytest.mark.slow
def test_executorch_computes_the_networks_own_output_from_a_raw_frame(artifact):
    lines: list[str] = []
    made, path = open_artifact(artifact(say=lines.append))
    session = ExecutorchSession(path, threads=1)
    found = session.run(FRAME)
    assert (made.output.layout, made.output.shape, found.dtype) == ("NCHW", found.shape, np.float32)
    np.testing.assert_allclose(found, EXPECTED, atol=1e-4)
    session.run(255 - FRAME)
    assert np.abs(found - EXPECTED).max() > 1  # the session says that it reuses its output
    session.close()
    session.close()
    assert path.name == "tiny-32x48-fp32.pte"
    assert lines[0].startswith("executorch vs torch: 100.0000%")
    assert lines[1].startswith("XNNPACK computes 1 piece of the graph")
    assert made.verification[0].control < 0.9
    assert "planes" in made.details["in_the_session"]


@pytest.mark.slow
def test_the_runtime_makes_the_same_mask_of_it_as_of_the_onnx_file(artifact, tmp_path):
    frame = drawn_frame((50, 70), 3)
    with Segmenter.open(artifact()) as ours, Segmenter.open(tiny.artifact(tmp_path)) as onnx:
        assert np.mean(ours(frame).mask == onnx(frame).mask) > 0.9999


@pytest.mark.slow
def test_a_network_with_other_weights_fails_the_gate_and_leaves_nothing(artifact, monkeypatch, tmp_path):
    wanted = dataclasses.replace(tiny.request(), network=tiny.network(2))
    monkeypatch.setattr(tiny, "request", lambda: wanted)
    with pytest.raises(GateFailed, match="executorch vs torch"):
        artifact()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_file_that_loses_too_much_is_refused_with_the_figure(artifact, tmp_path):
    tiny.labelled(tmp_path)
    with pytest.raises(GateFailed, match="points of mIoU"):
        artifact(data=tmp_path, max_drop=-1.0)
    assert not list((tmp_path / "out").glob("*"))
    assert open_artifact(artifact(data=tmp_path))[0].details["accuracy"]["engine"] == "ExecuTorch"


class Unknown(tiny.TinyNetwork):
    """With an operator that ExecuTorch has no kernel for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cummax(super().forward(x), 2).values


@pytest.mark.slow
def test_an_operator_that_executorch_does_not_have_is_named():
    with pytest.raises(UserError, match=r"cummax"):
        convert.program_from_torch(dataclasses.replace(tiny.request(), network=Unknown().eval()))


@pytest.mark.slow
def test_int8_computes_in_integers_with_our_ranges(artifact, tmp_path):
    (tmp_path / "photos").mkdir()
    for index in range(4):
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.png"), drawn_frame((40, 60), index))
    wanted = tiny.request(precision="int8")
    made, path = open_artifact(exporter.exported(
        Job(wanted, tmp_path / "out", calibration=tmp_path / "photos", allow_few=True)))
    assert [check.step for check in made.verification] == ["executorch vs torch", "int8 vs torch"]
    assert 0.9 <= made.verification[1].agreement < 1
    assert made.calibration["frames"] == 4
    assert ExecutorchSession(path).run(FRAME).dtype == np.float32


class Joining(torch.nn.Module):
    """A map that is used as it is, and beside one a thousand times as large."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.near, self.far, self.after = (torch.nn.Conv2d(3, 3, 1, bias=False) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        near = self.near(x)
        return self.after(near), torch.cat((near, 1000 * self.far(x)), 1)


@pytest.mark.slow
def test_a_map_keeps_its_range_where_it_is_joined_to_a_larger_one():
    planes = torch.from_numpy(FRAME).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected, _ = Joining()(planes)
        found, _ = int8_from_float(traced(Joining(), planes), [FRAME])(planes)
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_int8_without_frames_is_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="--calibration DIR"):
        exporter.exported(Job(tiny.request(precision="int8"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_exporter_that_fails_is_quoted(monkeypatch):
    def refusing(program):
        raise RuntimeError("no translation of aten.cummax\n\nWhile executing %cummax")

    monkeypatch.setattr(convert, "lowered", refusing)
    with pytest.raises(UserError, match=r"refuses tiny \(no translation of aten.cummax\)"):
        convert.program_from_torch(tiny.request())


def test_bytes_that_are_no_program_are_refused():
    with pytest.raises(UserError, match="ExecuTorch cannot load the model"):
        ExecutorchSession(b"no program" * 100)


def test_a_machine_without_it_is_told_what_to_install(monkeypatch, tmp_path):
    from runtime import sessions

    monkeypatch.setattr(sessions, "installed", lambda packages: dict.fromkeys(set(packages) - {"executorch"}, "1"))
    with pytest.raises(UserError, match=r"executorch not installed: pip install 'edgeseg\[executorch\]'"):
        executorch.build(Job(tiny.request(), tmp_path))
