"""The network as it was before any step, in torch: what every later step is held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.request import Request
from export.spec import Preprocess
from runtime.artifact import OutputKind

if TYPE_CHECKING:
    from torch import nn

    from export.verify import Verifier
    from runtime.preprocess import Frame

MAX_FRAMES = 16
"""Frames that a verification runs on; a larger folder is sampled evenly."""


def torch_verifier(wanted: Request, folder: Path | None) -> Verifier:
    """A `Verifier` whose reference is the network in torch: LOW is float32 [1, h, w, C], LOGITS float32 [1, C, H, W],
    CLASSES uint8 [1, H, W]."""
    import torch

    from export.origins.onnx_network import OnnxNetwork
    from export.traces import torch_traces
    from export.verify import Verifier
    from export.wrapper import Normalised

    def runner(network: nn.Module) -> Callable[[Frame], Any]:
        module = Normalised(network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)

        def run(frame: Frame) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(frame)).numpy()
        return run

    return Verifier(verification_frames(wanted.spec.preprocess, folder, dynamic_multiple=wanted.spec.multiple
                                        if wanted.dynamic else 0),
                    runner(wanted.network), runner(wanted.control), to_classes(wanted),
                    () if isinstance(wanted.network, OnnxNetwork) else torch_traces(wanted),
                    lambda: runner(with_neighbouring_weights(wanted.network)))


def with_neighbouring_weights(network: nn.Module) -> nn.Module:
    """A copy in which every float32 weight is the next larger or smaller number, at random but always the same."""
    import copy

    import torch

    result, chance = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in (each for each in result.parameters() if each.dtype is torch.float32):
            up = torch.rand(weight.shape, generator=chance) < 0.5
            weight.copy_(torch.nextafter(weight, torch.where(up, torch.inf, -torch.inf)))
    return result


def verification_frames(preprocess: Preprocess, folder: Path | None, *, dynamic_multiple: int = 0,
                        ) -> list[tuple[str, Frame]]:
    """Frames at input size, from a folder (evenly sampled, at most MAX_FRAMES) or drawn by ourselves.

    Args:
        preprocess: brings them to size.
        folder: images, or None.
        dynamic_multiple: when not 0, every other frame gets another size, a multiple of this.

    Returns:
        (name, uint8 [1, H, W, 3] BGR) pairs.
    """
    from calibration.data.frames import drawn_frame, evenly_spaced
    from runtime.video import image_paths, read_image

    if folder is None:
        named = [(f"drawn {i}", drawn_frame(preprocess.size, 11 * i)) for i in range(4)]
    else:
        named = [(path.name, read_image(path)) for path in evenly_spaced(image_paths(folder), MAX_FRAMES)]
    other = preprocess
    if dynamic_multiple:
        height, width = (max(n * 3 // 4 // dynamic_multiple, 1) * dynamic_multiple for n in preprocess.size)
        other = dataclasses.replace(preprocess, size=(height, width))
    return [(name, (other if i % 2 else preprocess)(frame)) for i, (name, frame) in enumerate(named)]


def to_classes(wanted: Request) -> Callable[[Any], Any]:
    """From one output of the graph to a uint8 [H, W] class map at input size, by the runtime's own exact mask."""
    import numpy as np

    from runtime.mask import class_map, planes

    stride, align_corners = wanted.spec.stride, wanted.spec.align_corners

    def low(y: Any) -> Any:
        height, width = wanted.spec.preprocess.size
        if wanted.dynamic:
            height, width = y.shape[1] * stride, y.shape[2] * stride
        return class_map(planes(y[0], "NHWC"), (height, width), align_corners=align_corners)

    def full(y: Any) -> Any:
        return y[0].argmax(0).astype(np.uint8)

    return {OutputKind.LOW: low, OutputKind.LOGITS: full, OutputKind.CLASSES: lambda y: y[0]}[wanted.output]
