"""Quantisation-aware fine-tuning, for what calibration cannot reach: the float graph goes to the exporter's trainer,
which rounds where the INT8 graph will round, and comes back with other weights."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.source import run_exporter
from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from calibration.quantise.graph import FloatGraph
    from calibration.quantise.quantize import Plan
    from calibration.quantise.thresholds import Range
    from runtime.artifact import Artifact


@dataclass(frozen=True)
class FinetuneJob:
    """What the trainer is given, as a JSON file.

    Attributes:
        graph, out: float .onnx before and after.
        train: folder with images/ and labels/.
        classes: names, index order.
        size: (H, W) of the graph's input.
        layout: of its logits, "NHWC" or "NCHW".
        scales: activation → scale of its INT8 form.
        nodes: names of the nodes that are computed in INT8.
        epochs: passes over the frames.
    """

    graph: str
    out: str
    train: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    layout: str
    scales: Mapping[str, float]
    nodes: tuple[str, ...]
    epochs: int

    @classmethod
    def read(cls, path: Path) -> FinetuneJob:
        """From the file that `write` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        height, width = values["size"]
        return cls(**values | {"classes": tuple(values["classes"]), "nodes": tuple(values["nodes"]),
                               "size": (height, width)})

    def write(self, path: Path) -> None:
        """As a file."""
        path.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")


def training_folder(data: Path) -> Path:
    """The part of `--data` that may be learnt from: what judges must not be in it.

    Raises:
        UserError: there is no train/ with labels beside a val/.
    """
    train = data / "train"
    missing = next((p for p in (train / "images", train / "labels", data / "val" / "images") if not p.is_dir()), None)
    if missing is not None:
        raise UserError(f"--qat learns from labelled frames, and there is no {missing}; expected {train} and "
                        f"{data / 'val'}, each with images/ and labels/", try_="the same without --qat")
    return train


def fine_tuned(graph: FloatGraph, thresholds: Mapping[str, Range], plan: Plan, artifact: Artifact, train: Path,
               epochs: int) -> tuple[FloatGraph, list[float]]:
    """A copy of the graph whose weights have learnt to be rounded, and the mean loss of each epoch.

    Args:
        graph: the float graph; left as it is.
        thresholds: of its activations; they stay.
        plan: what becomes INT8.
        artifact: the float artifact.
        train: folder of labelled frames.
        epochs: passes over them.

    Raises:
        UserError, GateFailed: as `export.training.qat.fine_tune`.
    """
    import onnx

    from calibration.quantise.graph import FloatGraph
    from calibration.quantise.quantize import grids_from_thresholds, quantised_tensors

    with tempfile.TemporaryDirectory() as folder:
        before, after, order = (Path(folder) / name for name in ("before.onnx", "after.onnx", "job.json"))
        onnx.save_model(graph.model, before)
        grids = grids_from_thresholds(graph, thresholds, quantised_tensors(graph, plan))
        FinetuneJob(
            str(before), str(after), str(train), artifact.classes, artifact.preprocess.size, artifact.output.layout,
            {name: grid.scale for name, grid in grids.items()},
            tuple(sorted(plan.nodes)), epochs).write(order)
        try:
            last = run_exporter(["export.training.qat", str(order)], show=cli.status)
        finally:
            cli.status("")
        result = FloatGraph(onnx.load(after))
    return result, [float(loss) for loss in last.split()]
