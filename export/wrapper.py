"""Every concession that export asks for, around an untouched network."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from export.origins.outputs import logits_of
from export.quiet import refusing
from export.spec import Preprocess
from runtime.artifact import OutputKind

if TYPE_CHECKING:
    from torch.export import ExportedProgram

logger = logging.getLogger(__name__)


class Deployable(nn.Module):
    """A network that takes camera frames: uint8 [1, H, W, 3] BGR, 0..255, as OpenCV delivers them.

    The mean is subtracted in the graph, because zero padding must mean "mean colour" as it did in training; the
    division by std, the scale 1/255 and the colour order are folded into the first convolution, where they are free.
    They are folded only where that is shown to change nothing: `folded` says whether, `remark` why not.

    Args:
        network: float NCHW normalised frames → float NCHW logits at a fraction of the input size. Copied, not changed.
        preprocess: what the network was trained with.
        output: LOW returns float32 [1, h, w, C], classes last, because the host's argmax reads them in that order;
            LOGITS returns float32 [1, C, H, W]; CLASSES returns uint8 [1, H, W].
        align_corners: the convention of the final bilinear upsampling.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, output: OutputKind, align_corners: bool) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network.eval()
        self.output = output
        self.align_corners = align_corners
        rgb = preprocess.colour_order == "rgb"
        mean = torch.tensor(preprocess.mean) * 255
        scale = 1 / (torch.tensor(preprocess.std) * 255)
        if rgb:
            mean, scale = mean.flip(0), scale.flip(0)
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1))
        self.register_buffer("scale", scale.reshape(1, 3, 1, 1))
        self.flip = rgb
        self.folded, self.remark = False, ""
        conv = _only_input_convolution(self.network, preprocess.size)
        if conv is None:
            self.remark = "colour order and scale stay in the graph: no single convolution takes the frame"
        elif not self._fold(conv, preprocess.size):
            self.remark = ("colour order and scale stay in the graph: folded into the first convolution they change "
                           "the logits: the network reads its input elsewhere too, or chooses between values "
                           "that are almost equal")
        if self.remark:
            logger.warning(self.remark)

    @torch.no_grad()
    def _fold(self, conv: nn.Conv2d, size: tuple[int, int]) -> bool:
        """Move scale and colour order into `conv`, and take them out again where that changes the logits.

        Hooks show which modules read the input, but not a function that pools it again further on, nor a layer that
        computes its weights anew in every run. Noise shows them all.
        """
        noise = torch.Generator().manual_seed(0)
        frames = [functional.interpolate(torch.rand(1, 3, *grid, generator=noise) * 255, size, mode="bilinear")
                  for grid in (size, (8, 8))]  # each pixel for itself, and surfaces as in a picture
        before, weight = [self.logits(frame) for frame in frames], conv.weight.clone()
        conv.weight.copy_((weight.flip(1) if self.flip else weight) * self.scale)
        self.folded = True
        if not all(_same(a, self.logits(frame)) for a, frame in zip(before, frames)):
            conv.weight.copy_(weight)
            self.folded = False
        return self.folded

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [1, H, W, 3] BGR → what `output` says."""
        x = frames.permute(0, 3, 1, 2).float()
        return _finish(self.logits(x), (x.shape[2], x.shape[3]), self.output, self.align_corners)

    def logits(self, x: Tensor) -> Tensor:
        """Float [1, 3, H, W] BGR, 0..255 → float [1, C, h, w] at the network's stride."""
        return self.centred(x - self.mean)

    def centred(self, x: Tensor) -> Tensor:
        """The same of frames whose mean is subtracted already."""
        if not self.folded:
            x = x * self.scale
            x = x.flip(1) if self.flip else x
        return logits_of(self.network(x))


class RowByRow(Deployable):
    """Subtracts the mean from a row at a time, as a map of one pixel with 3·W channels: engines with channels last take
    the innermost dimension at once, and three colours are too few for that (XNNPACK: a sixteenth of lraspp-small's
    time)."""

    row: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, output: OutputKind, align_corners: bool) -> None:
        super().__init__(network, preprocess, output, align_corners)
        self.register_buffer("row", self.mean.flatten().repeat(preprocess.size[1]))

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [1, H, W, 3] BGR → what `output` says."""
        _, height, width, colours = frames.shape
        rows = frames.float().reshape(1, height, 1, width * colours) - self.row
        x = rows.reshape(1, height, width, colours).permute(0, 3, 1, 2)
        return _finish(self.centred(x), (height, width), self.output, self.align_corners)


class PictureInput(nn.Module):
    """A network that takes what Core ML makes of an image: float [1, 3, H, W] BGR, 0..255.

    Core ML converts a camera's pixel buffer to planar channels itself, so that nothing of `Deployable` but the folded
    normalisation is needed. Class maps are int32, the narrowest integer that a Core ML multi-array has.

    Args:
        deployable: holds the network; `output` and `align_corners` are taken from it.
    """

    def __init__(self, deployable: Deployable) -> None:
        super().__init__()
        self.deployable = deployable

    def forward(self, image: Tensor) -> Tensor:
        """LOW: float [1, C, h, w]; LOGITS: float [1, C, H, W]; CLASSES: int32 [1, H, W]."""
        low = self.deployable.logits(image)
        if self.deployable.output is OutputKind.LOW:
            return low
        logits = functional.interpolate(low, size=image.shape[2:], mode="bilinear",
                                        align_corners=self.deployable.align_corners)
        return logits if self.deployable.output is OutputKind.LOGITS else logits.argmax(1).to(torch.int32)


ROUNDING = 1e-4
"""By how much logits may differ, in units of the largest, where two ways to compute them differ by rounding alone."""


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= ROUNDING * a.abs().max())


def _only_input_convolution(network: nn.Module, size: tuple[int, int]) -> nn.Conv2d | None:
    """The convolution that alone of all modules reads the network's input, found by running the network once; None if
    there is none."""
    readers: list[nn.Module] = []
    frame = torch.zeros(1, 3, *size)

    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if not list(module.children()) and any(value is frame for value in inputs):
            readers.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(frame)
    finally:
        for hook in hooks:
            hook.remove()
    conv = readers[0] if len(readers) == 1 else None
    return conv if isinstance(conv, nn.Conv2d) and conv.groups == 1 else None


class Normalised(nn.Module):
    """The network as its authors run it, on a uint8 NHWC BGR frame: the reference for everything that follows.

    Args:
        network: used as it is.
        preprocess: what it was trained with.
        output, align_corners: as in `Deployable`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, output: OutputKind, align_corners: bool) -> None:
        super().__init__()
        network.eval()
        self.network, self.output, self.align_corners = network, output, align_corners
        self.rgb = preprocess.colour_order == "rgb"
        self.register_buffer("mean", torch.tensor(preprocess.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).reshape(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [1, H, W, 3] BGR → what `output` says."""
        x = frames.permute(0, 3, 1, 2)
        x = ((x.flip(1) if self.rgb else x).float() / 255 - self.mean) / self.std
        return _finish(logits_of(self.network(x)), (x.shape[2], x.shape[3]), self.output, self.align_corners)


def _finish(low: Tensor, size: tuple[int, int], output: OutputKind, align_corners: bool) -> Tensor:
    if output is OutputKind.LOW:
        return low.permute(0, 2, 3, 1)
    logits = functional.interpolate(low, size=size, mode="bilinear", align_corners=align_corners)
    return logits if output is OutputKind.LOGITS else logits.argmax(1).to(torch.uint8)


def adaptive_pool(x: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """`adaptive_avg_pool2d` in terms that every engine has.

    torch's own decomposition ends in an `as_strided` (a Reshape and a Gather in ONNX) for global pooling, and in index
    arithmetic otherwise. A mean says the same, plain pooling where bins repeat (sizes in a ratio such as 2:1 or 3:2;
    ESPNetv2 pools maps of half its input's size), and two small matrix products elsewhere.

    Args:
        x: float [N, C, H, W].
        output_size: (h, w), one number for both, or None for the input's own; bin i of n covers floor(i·H/n) to
            ceil((i+1)·H/n), as torch defines it.
    """
    sides = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    high, wide = (own if side is None else side for own, side in zip(x.shape[2:], sides))
    if high == wide == 1:
        return x.mean((2, 3), keepdim=True)
    if isinstance(x.shape[2], int) and isinstance(x.shape[3], int):  # numbers, not a dynamic export's symbols
        down, across = _period(x.shape[2], high), _period(x.shape[3], wide)
        if len(down) == len(across) <= INTERLEAVED:
            stride = (x.shape[2] * len(down) // high, x.shape[3] * len(down) // wide)
            parts = [functional.avg_pool2d(x[:, :, top:, left:] if top or left else x, (bottom - top, right - left),
                                           stride) for top, bottom in down for left, right in across]
            return functional.pixel_shuffle(torch.stack(parts, 2).flatten(1, 2), len(down)) if parts[1:] else parts[0]
    rows, columns = _bins(x.shape[2], high), _bins(x.shape[3], wide)
    return rows.to(x) @ x @ columns.to(x).T


INTERLEAVED = 2
"""Up to that many bins a side before their pattern repeats, they are pooled apart and interleaved."""


def _period(length: int, count: int) -> list[tuple[int, int]]:
    """(first cell, cell after the last) of each bin until the pattern of the bins repeats."""
    period = gcd(length, count)
    length, count = length // period, count // period
    return [(bin_ * length // count, -(-(bin_ + 1) * length // count)) for bin_ in range(count)]


def _bins(length: int, count: int) -> Tensor:
    """[count, length] matrix whose rows average one bin each."""
    bins, cells = torch.arange(count)[:, None], torch.arange(length)
    inside = torch.logical_and(cells >= bins * length // count, cells < -(-(bins + 1) * length // count)).float()
    return inside / inside.sum(1, keepdim=True)


def traced(module: nn.Module, *frames: Tensor, dynamic_shapes: Any = None) -> ExportedProgram:
    """A module as torch.export sees it, with pools in terms that every engine has.

    Raises:
        UserError: torch.export cannot follow it, as where values decide which way `forward` goes.
    """
    with refusing("torch.export", "the network", expected="a forward that takes the same way for every frame",
                  try_="python -m export.onnx FILE.onnx, if its authors have it as an ONNX file"), _PooledAsEnginesDo():
        return torch.export.export(module, frames, dynamic_shapes=dynamic_shapes)


class _PooledAsEnginesDo(TorchFunctionMode):
    """Replaces `adaptive_avg_pool2d` by `adaptive_pool` while a network runs."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        pools = func in (functional.adaptive_avg_pool2d, torch._C._nn.adaptive_avg_pool2d)
        return (adaptive_pool if pools else func)(*args, **(kwargs or {}))
