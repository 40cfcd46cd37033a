"""Tiny things that stand for real ones: a network of a few hundred parameters, an artifact made from it, a clip."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from calibration.data.frames import drawn_frame
from export.build import build
from export.request import Request
from export.spec import CAMVID, ModelSpec, Preprocess
from export.target import Job
from export.wrapper import Normalised
from runtime.artifact import OutputKind, json_path
from runtime.preprocess import Frame

SPEC = ModelSpec(name="tiny", builder="TinyNetwork", preprocess=Preprocess((32, 48)), classes=CAMVID, stride=4,
                 align_corners=False, multiple=4, parameters=0, gmacs=0.0, counted_at=(32, 48), licence="Apache-2.0",
                 paper="none")


class TinyNetwork(nn.Module):
    """Two convolutions, a squeeze-and-excite gate and a classifier: every op that matters, in a millisecond."""

    def __init__(self, classes: int = 11) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.down = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.classifier = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(self.stem(x))
        return self.classifier(x * self.gate(x))


class Aggregating(nn.Module):
    """What DFANet is made of: separable convolutions beside a shortcut, concatenation with what was interpolated.

    Its channels are of very different sizes, and so are the maps that it concatenates.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 8, 1))
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU6(), nn.Conv2d(8, 8, 1))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1))
        self.classifier = nn.Conv2d(16, 11, 1)
        size = torch.logspace(-1.5, 1.5, 8)
        with torch.no_grad():
            for layer in (self.stem[0], self.body[2]):
                layer.weight.mul_(size[:, None, None, None])
                layer.bias.mul_(size)
            self.body[1].weight.div_(size[:, None, None, None])
            self.deep[0].weight.div_(size[:, None, None])
            self.classifier.weight[:, :8].div_(size[:, None, None])

    def forward(self, x):
        x = self.stem(x)
        x = x + self.body(x)
        deep = self.deep(x)
        deep = nn.functional.interpolate(deep * self.gate(deep), scale_factor=2, mode="bilinear")
        return self.classifier(torch.cat((x, deep), 1).relu())


def network(seed: int = 0) -> TinyNetwork:
    """A TinyNetwork whose classes vary over a picture, as a trained one's do."""
    torch.manual_seed(seed)
    net = TinyNetwork().eval()
    with torch.no_grad():
        net.classifier.weight.mul_(20)
    return net


def logits(frame: Frame) -> npt.NDArray[np.float32]:
    """What it computes in torch from a raw frame, uint8 [1, 32, 48, 3] BGR: [1, 8, 12, 11]."""
    module = Normalised(network(), SPEC.preprocess, OutputKind.LOW, SPEC.align_corners)
    with torch.no_grad():
        return module(torch.from_numpy(frame)).numpy()  # type: ignore[no-any-return]


def request(**options: object) -> Request:
    """An export request for it."""
    return Request(SPEC, network(0), network(1), {"source": "none", "sha256": "", "trained": False, "terms": ""},
                   **options)  # type: ignore[arg-type]


def artifact(folder: Path, output: OutputKind = OutputKind.LOW) -> Path:
    """An exported .onnx with its JSON: a copy, as exporting takes seconds and gives the same bytes every time."""
    made = _exported(output)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (made, json_path(made)):
        shutil.copyfile(file, folder / file.name)
    return folder / made.name


_FOLDER = TemporaryDirectory(prefix="edgeseg-tiny-")


@cache
def _exported(output: OutputKind) -> Path:
    """Once in each process of the tests."""
    return build("onnx", Job(request(output=output), Path(_FOLDER.name)))


def clip(path: Path, frames: int = 12, size: tuple[int, int] = (64, 96)) -> Path:
    """An mp4 of drawn frames, `size` is (H, W)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (size[1], size[0]))
    for index in range(frames):
        writer.write(drawn_frame(size, index))
    writer.release()
    return path


def flipped(model: onnx.ModelProto, weight: str) -> onnx.ModelProto:
    """A copy of a graph in which the weight whose name ends so has its output channels in reverse: a broken step."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    found = next(t for t in copy.graph.initializer if t.name.endswith(weight))
    found.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(found)[::-1].copy(), found.name))
    return copy


def labelled(folder: Path) -> Path:
    """A folder with images/ and labels/ of one drawn frame, 32x48, all of whose pixels are of class 0."""
    for part in ("images", "labels"):
        (folder / part).mkdir()
    picture(folder / "images" / "a.png", (32, 48))
    assert cv2.imwrite(str(folder / "labels" / "a.png"), np.zeros((32, 48), np.uint8))
    return folder


def picture(path: Path, size: tuple[int, int] = (40, 60)) -> Path:
    """A PNG of one drawn frame."""
    assert cv2.imwrite(str(path), np.ascontiguousarray(drawn_frame(size, 0)))
    return path
