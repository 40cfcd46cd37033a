"""ExecuTorch in INT8, with the ranges that this project's calibration finds.

torchao's quantiser for XNNPACK says which tensors become integers, and puts an observer at each. Ours are counted at
those observers by `calibration.quantise.ranges`, on frames chosen by `calibration.data.coverage`, and cut by
`calibration.quantise.thresholds`; what an observer would have answered is overwritten. XNNPACK has zero-points, so that
a range ends at the threshold, or at what was seen where that is nearer.

Joins (`torch.cat`) stay in float32, as the quantiser gives all that is joined one scale, wherever else it is used:
beside `dfanet-a`'s context, which reaches 1000, nothing was left of a map that ends at 11.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from calibration.quantise.ranges import Magnitudes, check_finite
from calibration.quantise.thresholds import choose
from export.calibrated import METHOD

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from runtime.preprocess import Frame

LEFT_OUT = {"cat", "adaptive_avg_pool2d"}
"""Patterns of the quantiser: joins, see above, and pools to one cell, which are means here, which it refuses."""


def int8_from_float(program: ExportedProgram, frames: Iterable[Frame]) -> nn.Module:
    """The program with pairs of quantise and dequantise: INT8 activations, weights with a scale for each channel.

    Args:
        program: the float network, as torch.export sees it.
        frames: uint8 [1, H, W, 3] BGR at the network's size.

    Raises:
        UserError: a tensor holds NaN or infinity on a frame.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    prepared = prepare_pt2e(program.module(), _quantiser())
    observers = {name: module for name, module in prepared.named_modules() if hasattr(module, "min_val")
                 and module.qscheme == torch.per_tensor_affine}
    seen = {name: Magnitudes.empty() for name in observers}

    def counting(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            values = inputs[0].detach().numpy()
            check_finite(name, values)
            seen[name].add(values)
        return hook

    for name, module in observers.items():
        module.register_forward_pre_hook(counting(name))
    with torch.no_grad():
        for frame in frames:
            prepared(torch.from_numpy(frame).permute(0, 3, 1, 2).float())
        for name, (low, high) in choose(METHOD, seen, zero_points=True).items():
            observers[name].min_val.fill_(low)
            observers[name].max_val.fill_(high)
    quantised: nn.Module = convert_pt2e(prepared)
    return quantised


def _quantiser() -> Any:
    """XNNPACK's without joins; its observers of activations keep the ends of what they see, and no histogram."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver

    config = get_symmetric_quantization_config(is_per_channel=True)
    ends = {side: dataclasses.replace(getattr(config, side), observer_or_fake_quant_ctr=MinMaxObserver)
            for side in ("input_activation", "output_activation")}
    quantiser = XNNPACKQuantizer().set_global(dataclasses.replace(config, **ends))
    quantiser.SUPPORTED_PATTERNS = [pattern for pattern in quantiser.SUPPORTED_PATTERNS if pattern.name not in LEFT_OUT]
    return quantiser
