"""torch → .tflite through Google's converter: the network in its wrapper, plus what the converter gets wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from export.quiet import quiet, refusing

if TYPE_CHECKING:
    from torch import Tensor

    from export.request import Request

CONVERTER = ("litert-torch", "litert-converter", "ai-edge-quantizer")
"""Distributions that no extra can bring: they ask for an xdsl whose typing-extensions is older than what others here
need. They are installed without what they ask for (`requirements.txt` beside this file); what they really use is in the
extra `litert-export`."""


def tflite_from_torch(wanted: Request) -> bytes:
    """Convert the network in its wrapper: uint8 [1, H, W, 3] BGR → `wanted.output`, in float32.

    Raises:
        UserError: the converter does not translate an operator; the message has its name.
    """
    import torch

    from export.wrapper import RowByRow, traced

    module = RowByRow(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners).eval()
    frame = torch.zeros(1, *wanted.spec.preprocess.size, 3, dtype=torch.uint8)
    with quiet():
        litert_torch = converter()
        with refusing("LiteRT's converter", wanted.spec.name):
            program = traced(module, frame).run_decompositions({
                torch.ops.aten.expand.default: spread, torch.ops.aten.conv_transpose2d.input: cut_to_size,
                torch.ops.aten.upsample_nearest2d.vec: picked})
            model: bytes = litert_torch.convert(program.module(), (frame,)).model_content()
    return model


def converter() -> Any:
    """litert_torch, without its own progress bar."""
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    import litert_torch

    return litert_torch


def spread(x: Tensor, size: Sequence[int], *, implicit: bool = False) -> Any:
    """`expand` of a single cell over a map, as the bilinear interpolation that it is (image pooling of DeepLabV3).

    The converter puts channels last and forgets it on the way to BROADCAST_TO, which the interpreter then refuses.
    RESIZE_BILINEAR has no such fault, and delegates take it. Other expansions are left alone.

    Args:
        x: any tensor; [N, C, 1, 1] is what this is for.
        size: as `torch.Tensor.expand` takes it.
        implicit: of the operator's signature; unused.

    Returns:
        A tensor, or NotImplemented, at which `run_decompositions` keeps the operator.
    """
    from torch.nn import functional

    cell = x.dim() == len(size) == 4 and tuple(x.shape[2:]) == (1, 1)
    if not cell or any(to not in (-1, own) for to, own in zip(size[:2], x.shape)):
        return NotImplemented
    return functional.interpolate(x, size=tuple(size[2:]), mode="bilinear", align_corners=True)


def cut_to_size(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1, 1),
                padding: Sequence[int] = (0, 0), output_padding: Sequence[int] = (0, 0), groups: int = 1,
                dilation: Sequence[int] = (1, 1)) -> Any:
    """A transposed convolution with output padding, as the one without any padding whose edges are cut off (ENet).

    The converter computes it without its last rows and columns, and puts zeros there.

    Args:
        x, weight, bias, stride, padding, output_padding, groups, dilation: as `conv_transpose2d` takes them.

    Returns:
        A tensor, or NotImplemented, at which `run_decompositions` keeps the operator.
    """
    from torch.nn import functional

    if not any(output_padding) or any(more > cut for more, cut in zip(output_padding, padding)):
        return NotImplemented
    whole = functional.conv_transpose2d(x, weight, bias, stride, 0, 0, groups, dilation)
    height, width = (side - 2 * cut + more for side, cut, more in zip(whole.shape[2:], padding, output_padding))
    return whole[:, :, padding[0]:padding[0] + height, padding[1]:padding[1] + width]


def picked(x: Tensor, output_size: Sequence[int] | None, scale_factors: Sequence[float] | None) -> Any:
    """Nearest interpolation by a factor that is no whole number, as the rows and columns that it takes (STDC at odd
    sizes).

    The converter writes RESIZE_NEAREST_NEIGHBOR, which counts from the centres of pixels, and torch from their corners.

    Args:
        x, output_size, scale_factors: as `upsample_nearest2d` takes them: one of the two sizes.

    Returns:
        A tensor, or NotImplemented, at which `run_decompositions` keeps the operator.
    """
    import torch

    sides = output_size or [int(side * factor) for side, factor in zip(x.shape[2:], scale_factors or ())]
    if all(to % side == 0 for to, side in zip(sides, x.shape[2:])):
        return NotImplemented
    steps = [1 / factor for factor in scale_factors] if scale_factors else [
        side / to for side, to in zip(x.shape[2:], sides)]
    rows, columns = ((torch.arange(to, dtype=torch.float32) * step).floor().long() for to, step in zip(sides, steps))
    return x[:, :, rows][:, :, :, columns]
