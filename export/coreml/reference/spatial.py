"""Convolution, pooling, normalisation and resampling over rows and columns (MIL ops reference: conv, pool,
normalization, image_resizing). Tensors are [N, C, *spatial]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from export.coreml.reference.arithmetic import Parameters, flag, integers, number
from export.coreml.reference.read import unknown
from export.coreml.reference.resampling import HANDLERS as RESAMPLING

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _pads(p: Parameters, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """(before, after) for each spatial axis, in order."""
    kind = p.get("pad_type", "valid")
    if kind == "valid":
        return [0, 0] * len(sizes)
    if kind == "custom":
        return integers(p, "pad") or [0, 0] * len(sizes)
    if kind not in {"same", "same_lower"}:
        raise unknown(f"pad_type {kind!r}")
    pads = []
    for size, k, s, d in zip(sizes, kernel, strides, dilations):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        smaller = total // 2
        pads += [total - smaller, smaller] if kind == "same_lower" else [smaller, total - smaller]
    return pads


def _padded(x: torch.Tensor, pads: list[int], value: float = 0.0) -> torch.Tensor:
    if not any(pads):
        return x
    return F.pad(x, [n for i in range(len(pads) - 2, -1, -2) for n in pads[i:i + 2]], value=value)


def _conv(p: Parameters) -> torch.Tensor:
    x, weight = p["x"], p["weight"]
    rank = x.ndim - 2
    strides, dilations = integers(p, "strides") or [1] * rank, integers(p, "dilations") or [1] * rank
    pads = _pads(p, list(x.shape[2:]), list(weight.shape[2:]), strides, dilations)
    return _CONV[rank](_padded(x, pads), weight, p.get("bias"), strides, 0, dilations, int(number(p, "groups", 1)))


def _conv_transpose(p: Parameters) -> torch.Tensor:
    """weight is [C_in, C_out / groups, *K]; `pad` is taken off the full result, `output_shape` decides its end."""
    x, weight = p["x"], p["weight"]
    rank = x.ndim - 2
    if p.get("pad_type", "valid") not in {"valid", "custom"}:
        raise unknown(f"conv_transpose with pad_type {p['pad_type']!r}")
    strides, dilations = integers(p, "strides") or [1] * rank, integers(p, "dilations") or [1] * rank
    pads = integers(p, "pad") if p.get("pad_type") == "custom" and p.get("pad") is not None else [0, 0] * rank
    full = _CONV_TRANSPOSE[rank](x, weight, None, strides, 0, 0, int(number(p, "groups", 1)), dilations)
    wanted = integers(p, "output_shape")[2:]
    for axis in range(rank):
        before, after = pads[2 * axis:2 * axis + 2]
        size = full.shape[axis + 2]
        length = wanted[axis] if wanted else size - before - after
        missing = max(before + length - size, 0)
        full = _padded(full, [0, 0] * axis + [0, missing] + [0, 0] * (rank - axis - 1))
        full = full.narrow(axis + 2, before, length)
    return full if p.get("bias") is None else full + p["bias"].reshape(1, -1, *[1] * rank)


def _windows(p: Parameters) -> tuple[list[int], list[int], list[int], list[int]]:
    """Kernel, strides, padding, and what ceil_mode adds behind it (PyTorch's rule: no window may start outside)."""
    sizes = list(p["x"].shape[2:])
    kernel = integers(p, "kernel_sizes")
    strides = integers(p, "strides") or [1] * len(kernel)
    pads = _pads(p, sizes, kernel, strides, [1] * len(kernel))
    extra = [0, 0] * len(kernel)
    if flag(p, "ceil_mode"):
        for i, (size, k, s) in enumerate(zip(sizes, kernel, strides)):
            padded = size + pads[2 * i] + pads[2 * i + 1]
            count = -(-(padded - k) // s) + 1
            count -= (count - 1) * s >= size + pads[2 * i]
            extra[2 * i + 1] = max((count - 1) * s + k - padded, 0)
    return kernel, strides, pads, extra


def _max_pool(p: Parameters) -> torch.Tensor:
    kernel, strides, pads, extra = _windows(p)
    x = _padded(p["x"], [a + b for a, b in zip(pads, extra)], value=-torch.inf)
    return _MAX_POOL[len(kernel)](x, kernel, strides)


def _avg_pool(p: Parameters) -> torch.Tensor:
    """Sum over the window by the number of elements that count: all but padding, or all but ceil_mode's extra."""
    kernel, strides, pads, extra = _windows(p)
    x: torch.Tensor = p["x"]
    counted = torch.ones(1, 1, *x.shape[2:])
    counted = _padded(counted, pads, value=0.0 if flag(p, "exclude_padding_from_average") else 1.0)
    ones, rank = torch.ones(1, 1, *kernel), len(kernel)
    flat = _padded(_padded(x, pads), extra).flatten(0, 1).unsqueeze(1)
    sums = _CONV[rank](flat, ones, None, strides).reshape(*x.shape[:2], -1)
    counts = _CONV[rank](_padded(counted, extra), ones, None, strides)
    return sums.reshape(*x.shape[:2], *counts.shape[2:]) / counts


def _per_channel(parameter: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return parameter.reshape(1, -1, *[1] * (x.ndim - 2))


def _scaled(y: torch.Tensor, p: Parameters) -> torch.Tensor:
    if p.get("gamma") is not None:
        y = y * _per_channel(p["gamma"], y)
    return y + _per_channel(p["beta"], y) if p.get("beta") is not None else y


def _batch_norm(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    y = (x - _per_channel(p["mean"], x)) * torch.rsqrt(_per_channel(p["variance"], x) + number(p, "epsilon", 1e-5))
    return _scaled(y, p)


def _instance_norm(p: Parameters) -> torch.Tensor:
    return _scaled(F.instance_norm(p["x"], eps=number(p, "epsilon", 1e-5)), p)


def _layer_norm(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    axes = integers(p, "axes") or list(range(x.ndim))
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + number(p, "epsilon", 1e-5))
    shape = [x.shape[d] if d in {a % x.ndim for a in axes} else 1 for d in range(x.ndim)]
    y = y * p["gamma"].reshape(shape) if p.get("gamma") is not None else y
    return y + p["beta"].reshape(shape) if p.get("beta") is not None else y


HANDLERS: Mapping[str, Callable[[Parameters], Any]] = {
    "conv": _conv, "conv_transpose": _conv_transpose, "max_pool": _max_pool, "avg_pool": _avg_pool,
    "batch_norm": _batch_norm, "instance_norm": _instance_norm, "layer_norm": _layer_norm, **RESAMPLING,
}
