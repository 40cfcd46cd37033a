"""A graph whose INT8 form is bad learns to be rounded; what cannot be learnt is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from calibration.data.frames import drawn_frame
from calibration.judge.engines import Probe, Simulated
from calibration.quantise.finetune import FinetuneJob
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, all_nodes, grids_from_thresholds, int8_from_float, quantised_tensors
from calibration.quantise.thresholds import Range
from calibration.source import load_onnx
from export.training import qat
from export.training.objective import distillation
from export.training.samples import Sample
from runtime.errors import GateFailed, UserError
from tests import tiny

FRAMES = [drawn_frame((32, 48), i) for i in range(8)]


@pytest.fixture
def graph(tmp_path: Path) -> FloatGraph:
    return FloatGraph(load_onnx(tiny.artifact(tmp_path / "float")))


@pytest.fixture
def narrow(graph: FloatGraph) -> dict[str, Range]:
    """Thresholds that cut half of every range."""
    names = graph.float_tensors
    return {name: Range(float(min(x.min(), 0)) / 2, float(x.max()) / 2) for name, x in
            zip(names, Probe(graph.model, names).run_all(FRAMES[0][None]))}


@pytest.fixture
def job(graph: FloatGraph, narrow: dict[str, Range], tmp_path: Path) -> FinetuneJob:
    """Frames labelled by the float graph itself."""
    session, train = Simulated(graph.model), tmp_path / "train"
    for part in ("images", "labels"):
        (train / part).mkdir(parents=True)
    for i, frame in enumerate(FRAMES):
        low = session.run(frame[None])[0].argmax(-1).astype(np.uint8)
        cv2.imwrite(str(train / "images" / f"{i}.png"), frame)
        cv2.imwrite(str(train / "labels" / f"{i}.png"), cv2.resize(low, (48, 32), interpolation=cv2.INTER_NEAREST))
    onnx.save(graph.model, tmp_path / "before.onnx")
    plan = Plan(all_nodes(graph))
    grids = grids_from_thresholds(graph, narrow, quantised_tensors(graph, plan))
    return FinetuneJob(str(tmp_path / "before.onnx"), str(tmp_path / "after.onnx"), str(train), tiny.SPEC.classes.names,
                       (32, 48), "NHWC", {name: grid.scale for name, grid in grids.items()},
                       tuple(plan.nodes), 30)


def test_the_int8_graph_comes_nearer_to_the_float_one(
        graph: FloatGraph, narrow: dict[str, Range], job: FinetuneJob, monkeypatch: pytest.MonkeyPatch) -> None:
    mostly_taught = dataclasses.replace(qat.recipe(job), rate=1e-3, distill=100.0, jaccard=0.0)
    monkeypatch.setattr(qat, "recipe", lambda job: mostly_taught)
    steps: list[str] = []
    losses = qat.fine_tune(job, steps.append)
    assert len(losses) == len(steps) == job.epochs

    def apart(weights: FloatGraph) -> float:
        """Divergence of the INT8 form's class probabilities from the float graph's, on the frames as they are."""
        int8, exact = (Simulated(int8_from_float(weights, narrow, Plan(all_nodes(weights)))), Simulated(graph.model))
        return float(np.mean([distillation(*(torch.from_numpy(engine.run(frame[None])).permute(0, 3, 1, 2)
                                             for engine in (int8, exact))) for frame in FRAMES]))

    assert apart(FloatGraph(onnx.load(job.out))) < 0.8 * apart(graph)


def test_a_job_survives_its_file(job: FinetuneJob, tmp_path: Path) -> None:
    job.write(tmp_path / "job.json")
    assert FinetuneJob.read(tmp_path / "job.json") == job


def test_a_graph_that_torch_computes_otherwise_is_refused(job: FinetuneJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from export.training import rounded

    monkeypatch.setitem(rounded.OPERATORS, "Relu", lambda x, a: x[0].abs())
    with pytest.raises(GateFailed, match="what would be trained is another network"):
        qat.fine_tune(job, lambda text: None)


def test_too_few_frames_are_refused(job: FinetuneJob) -> None:
    (Path(job.train) / "images" / "7.png").unlink()
    with pytest.raises(UserError, match="7 training frames are fewer than one batch of 8"):
        qat.fine_tune(job, lambda text: None)


def test_frames_are_brought_to_the_networks_size_with_labels_that_stay_classes() -> None:
    sample = Sample("a", np.zeros((64, 96, 3), np.uint8), np.repeat(np.uint8([[0, 255]]), 48, 1).repeat(64, 0))
    small = qat.fitted(sample, (32, 48))
    assert small.image.shape == (32, 48, 3)
    assert small.label.shape == (32, 48)
    assert set(np.unique(small.label)) == {0, 255}
    assert qat.fitted(small, (32, 48)) is small


def test_the_command_ends_with_the_losses(job: FinetuneJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataclasses.replace(job, epochs=2).write(tmp_path / "job.json")
    assert qat.main([str(tmp_path / "job.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/2  step 1/1  loss ")
    assert len([float(loss) for loss in lines[-1].split()]) == 2
