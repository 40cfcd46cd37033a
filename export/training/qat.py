"""Fine-tune an INT8 graph on labelled frames: the second half of `python -m calibration NAME --qat EPOCHS`.

    python -m export.training.qat JOB.json

Calibration needs no torch, so the training is a process of its own; `calibration.quantise.finetune` writes the job and
takes the graph back. The recipe is that of every training here (`export.training.trainer`), with a low rate, and with
the float graph as teacher: what the network knew is to be kept, and only the rounding to be learnt around. Ranges of
activations stay as they were calibrated; those of weights follow the weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.quantise.finetune import FinetuneJob
from export.training.recipe import Recipe
from runtime import cli
from runtime.errors import GateFailed

if TYPE_CHECKING:
    from calibration.quantise.graph import FloatGraph
    from export.spec import ModelSpec
    from export.training.rounded import RoundedGraph
    from export.training.samples import Sample

RATE = 1e-4
"""Learning rate at its peak."""

CLOSE = 1e-3
"""Largest difference of a logit between torch and ONNX Runtime, as a share of the largest logit."""


def recipe(job: FinetuneJob) -> Recipe:
    """The numbers that differ from a training: whole frames, no weight decay, and `RATE`."""
    return Recipe(epochs=job.epochs, rate=RATE, decay=0.0, crop=job.size, weights="calibrated", teacher="float32")


def fine_tune(job: FinetuneJob, show: Callable[[str], None]) -> list[float]:
    """Train the job's graph, and write it.

    Args:
        job: what to train, and on what.
        show: receives a line after every step.

    Returns:
        Mean loss of each epoch.

    Raises:
        UserError: an operator that cannot be trained, labels that do not fit, or fewer frames than one batch.
        GateFailed: the graph does not compute in torch what it computes in ONNX Runtime.
    """
    import onnx
    import torch

    from calibration.quantise.graph import FloatGraph
    from export.training.rounded import RoundedGraph
    from export.training.samples import load_samples
    from export.training.train import device_from
    from export.training.trainer import Trainer

    graph = FloatGraph(onnx.load(job.graph))
    teacher = RoundedGraph(graph, job.layout, {}, ())
    _check(teacher, graph, job)
    samples = [fitted(sample, job.size) for sample in load_samples(Path(job.train), len(job.classes))]
    network = RoundedGraph(graph, job.layout, job.scales, job.nodes)
    trainer = Trainer(_spec(job), network, samples, recipe(job), device_from("auto"), compiled=False, teacher=teacher)
    torch.manual_seed(0)
    while trainer.epoch < job.epochs:
        trainer.run_epoch(show)
    trainer.average.write_to(graph)
    onnx.save_model(graph.model, os.fspath(job.out))
    return [line["loss"] for line in trainer.log]


def fitted(sample: Sample, size: tuple[int, int]) -> Sample:
    """A sample at the network's size, so that things are seen as large in training as they will be in use."""
    import dataclasses

    import cv2
    import numpy as np

    if sample.label.shape == size:
        return sample
    image, label = (cv2.resize(x, (size[1], size[0]), interpolation=how)
                    for x, how in ((sample.image, cv2.INTER_AREA), (sample.label, cv2.INTER_NEAREST)))
    return dataclasses.replace(sample, image=np.asarray(image, np.uint8), label=np.asarray(label, np.uint8))


def _check(network: RoundedGraph, graph: FloatGraph, job: FinetuneJob) -> None:
    """Hold the graph in torch against the graph in ONNX Runtime, on a drawn frame."""
    import numpy as np
    import torch

    from calibration.data.frames import drawn_frame
    from calibration.judge.engines import Simulated

    frame = drawn_frame(job.size, 0)
    expected = Simulated(graph.model).run(frame[None])
    with torch.no_grad():
        logits = network(torch.from_numpy(np.ascontiguousarray(frame[..., ::-1]))[None].permute(0, 3, 1, 2).float())
    found = (logits.permute(0, 2, 3, 1) if job.layout == "NHWC" else logits).numpy()
    apart = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not apart <= CLOSE:
        raise GateFailed(f"in torch the graph's logits differ by {apart:.1e} of the largest from ONNX Runtime's, "
                         f"{CLOSE:.0e} is allowed: what would be trained is another network")


def _spec(job: FinetuneJob) -> ModelSpec:
    """What the trainer asks of a network; its normalisation is in the graph."""
    from export.spec import Classes, ModelSpec, Preprocess

    return ModelSpec(
        name=Path(job.graph).stem, builder="", preprocess=Preprocess(job.size, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255)),
        classes=Classes("", job.classes, ()), stride=1, align_corners=False, multiple=1, parameters=0, gmacs=0.0,
        counted_at=job.size, licence="", paper="")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = cli.parser("export.training.qat", "Fine-tune an INT8 graph; calibration starts this by itself.",
                        "python -m calibration lraspp --data ../shared/data/camvid --qat 3")
    parser.add_argument("job", type=Path, metavar="JOB.json", help="what calibration.quantise.finetune wrote")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    cli.need("fine-tuning", "export", "onnx", "torch")
    losses = fine_tune(FinetuneJob.read(args.job), lambda text: print(text, flush=True))
    print(" ".join(f"{loss:.5f}" for loss in losses))
    return 0


if __name__ == "__main__":
    sys.exit(main())
