"""Every network through `export.onnx` and the runtime, at two sizes of which one is not square."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.data.frames import drawn_frame
from export import weights
from export.build import build
from export.origins import find, names
from export.request import Request
from export.spec import ModelSpec
from export.target import Job
from export.wrapper import Normalised
from runtime.artifact import OutputKind
from runtime.segmenter import Segmenter
from tests.contracts.test_models import fitting

LIGHT = ("lraspp-small", "stdc1")
"""Exported in every test run, at one size: one with aligned corners, one without; the others take minutes together and
are marked slow."""

ON_CAMVID = [name for name in names() if weights.bundled(find(name).spec, "camvid")]
"""Networks whose bundled weights can be judged by CamVid's labels."""

RANDOM = {"source": "none", "sha256": "", "trained": False, "terms": ""}


def awake(entry: ModelSpec, seed: int) -> nn.Module:
    """A network with random weights whose signal neither dies nor explodes on its way, so that rounding and wrong
    wiring show: every batch norm divides by the root mean square of what reaches it, and logits spread like a trained
    network's."""
    torch.manual_seed(seed)
    return awakened(find(entry.name).load(), entry)


def awakened(network: nn.Module, entry: ModelSpec) -> nn.Module:
    """The same for a network that is there already, which is changed."""
    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm.running_var, Tensor)
        norm.running_var.fill_(float(inputs[0].square().mean()))

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [module.register_forward_pre_hook(note) for module in norms]
    frame = torch.from_numpy(drawn_frame(entry.preprocess.size, 0))[None]
    whole = Normalised(network, entry.preprocess, OutputKind.LOW, entry.align_corners)
    with torch.no_grad():
        whole(frame)
        for hook in hooks:
            hook.remove()
        spread = whole(frame).std().clamp(min=1e-6)
        for parameter in list(network.parameters()):
            if parameter.shape[:1] == (len(entry.classes.names),):
                parameter.mul_(3 / spread)
    return network


def randomly(name: str, size: tuple[int, int]) -> Request:
    """A request of a network with random weights, at the size next to `size` that suits it."""
    entry = find(name).spec
    entry = dataclasses.replace(entry, preprocess=dataclasses.replace(entry.preprocess, size=fitting(entry, size)))
    return Request(entry, awake(entry, 0), awake(entry, 1), RANDOM)


SIZES = ((64, 64), (64, 96))
CASES = [pytest.param(name, size, marks=() if name in LIGHT and size == SIZES[1] else pytest.mark.slow)
         for name in names() for size in SIZES]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_the_runtime_gives_the_networks_own_mask(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    wanted = randomly(name, size)
    entry, network = wanted.spec, wanted.network
    path = build("onnx", Job(wanted, tmp_path))  # passes the gates or raises
    frame = drawn_frame((75, 110), 5)
    with Segmenter.open(path) as segmenter:
        mask = segmenter(frame).mask
        resized = segmenter.artifact.preprocess(frame)
    # In float64, as torch's own kernels in float32 part where a network stores the places of maxima (SegNet): on this
    # frame by 0.3 % of pixels, with and without oneDNN.
    network.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    whole = Normalised(network, entry.preprocess, OutputKind.LOW, entry.align_corners)
    with torch.no_grad():
        logits = whole(torch.from_numpy(resized)).permute(0, 3, 1, 2)
        full = functional.interpolate(logits, size=(75, 110), mode="bilinear", align_corners=entry.align_corners)
    expected = full.argmax(1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert np.mean(mask == expected) > 0.999
