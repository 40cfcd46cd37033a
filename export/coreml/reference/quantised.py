"""Constants, compressed weights, and quantised activations (MIL ops reference: constexpr_ops, quantization_ops,
compression).

Compressed weights are spread out once, when the program is opened: Core ML does the same at load time or in its
kernels, the values are the same. Activations pass through `quantize` and `dequantize` as the program says, so that each
of them takes one of 256 values; the arithmetic between runs on the dequantised values. An engine that multiplies the
integers themselves and accumulates in 32 bits gets the same sums up to float rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from export.coreml.reference.arithmetic import Parameters, integers, number
from export.coreml.reference.read import unpack

RANGES: Mapping[str, tuple[int, int]] = {"int8": (-128, 127), "uint8": (0, 255)}


def _along(parameter: torch.Tensor | None, rank: int, axis: int) -> torch.Tensor | float:
    """A scalar or a vector → what broadcasts along `axis` of a tensor of that rank; 0 when absent."""
    if parameter is None:
        return 0.0
    if parameter.numel() == 1:
        return parameter.reshape([]).to(torch.float32)
    return parameter.reshape([-1 if d == axis % rank else 1 for d in range(rank)]).to(torch.float32)


def _affine(data: torch.Tensor, p: Parameters) -> torch.Tensor:
    """scale × (data − zero_point), both scalars or vectors along `axis`."""
    axis = int(number(p, "axis"))
    return (data.to(torch.float32) - _along(p.get("zero_point"), data.ndim, axis)) * _along(p["scale"], data.ndim, axis)


def _quantize(p: Parameters) -> torch.Tensor:
    """clip(round(x / scale) + zero_point); halves go to the even neighbour, as coremltools rounds constants."""
    x, axis = p["input"], int(number(p, "axis"))
    low, high = RANGES[p["output_dtype"]]
    steps = torch.round(x / _along(p["scale"], x.ndim, axis)) + _along(p.get("zero_point"), x.ndim, axis)
    return steps.clamp(low, high).to(torch.int64)


def _repeat_to(parameter: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Blockwise: each entry of `parameter` stands for shape[i] / parameter.shape[i] neighbours along axis i."""
    for axis, size in enumerate(shape):
        parameter = parameter.repeat_interleave(size // parameter.shape[axis], dim=axis)
    return parameter


def _blockwise_shift_scale(p: Parameters) -> torch.Tensor:
    data: torch.Tensor = p["data"].to(torch.float32)
    if p.get("offset") is not None:
        data = data - _repeat_to(p["offset"], data.shape)
    return data * _repeat_to(p["scale"], data.shape)


def _lut_to_dense(p: Parameters) -> torch.Tensor:
    """Indices into a palette. iOS16 packs the indices into bytes; iOS18 has one palette per block of the tensor."""
    indices: torch.Tensor = p["indices"]
    lut: torch.Tensor = p["lut"]
    if p.get("shape") is not None:
        shape = integers(p, "shape")
        spread = unpack(indices.to(torch.uint8).numpy(), int(np.log2(lut.numel())), int(np.prod(shape)))
        return lut[torch.from_numpy(spread).long()].reshape(shape)
    for axis, size in enumerate(indices.shape):
        lut = lut.repeat_interleave(size // lut.shape[axis], dim=axis)
    vectors = torch.gather(lut, -2, indices[..., None, None].expand(*indices.shape, 1, lut.shape[-1]))[..., 0, :]
    if lut.shape[-1] == 1:
        return vectors[..., 0]
    axis = int(p["vector_axis"]) % indices.ndim
    vectors = vectors.movedim(-1, axis + 1)
    return vectors.reshape([s * (lut.shape[-1] if d == axis else 1) for d, s in enumerate(indices.shape)])


def _sparse_to_dense(p: Parameters) -> torch.Tensor:
    """Values where the mask has a one, zeros elsewhere. iOS16 packs the mask into bytes."""
    mask = p["mask"]
    if p.get("shape") is not None:
        shape = integers(p, "shape")
        mask = torch.from_numpy(unpack(mask.to(torch.uint8).numpy(), 1, int(np.prod(shape)))).reshape(shape)
    dense = torch.zeros(mask.shape, dtype=p["nonzero_data"].dtype)
    dense[mask != 0] = p["nonzero_data"]
    return dense


HANDLERS: Mapping[str, Callable[[Parameters], Any]] = {
    "const": lambda p: p["val"],
    "constexpr_affine_dequantize": lambda p: _affine(p["quantized_data"], p),
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_cast": lambda p: p["source_val"],
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "quantize": _quantize,
    "dequantize": lambda p: _affine(p["input"], p),
}
