"""Moving values about without changing them: shapes, slices, concatenation (MIL ops reference: tensor_transformation,
tensor_operation, scatter_gather)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from export.coreml.reference.arithmetic import Parameters, flag, integers, number


def _reshape(p: Parameters) -> torch.Tensor:
    """0 keeps the dimension of the same index, -1 is worked out."""
    x: torch.Tensor = p["x"]
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(integers(p, "shape"))])


def _expand_dims(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    axes = integers(p, "axes")
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    return x.squeeze(tuple(integers(p, "axes"))) if p.get("axes") is not None else x.squeeze()


def _slice_by_index(p: Parameters) -> torch.Tensor:
    """x[begin:end:stride] per axis; masks leave a border open or take a single index."""
    x: torch.Tensor = p["x"]
    begin, end = integers(p, "begin"), integers(p, "end")
    stride = integers(p, "stride") or [1] * x.ndim
    masks = [integers(p, key) or [0] * x.ndim for key in ("begin_mask", "end_mask", "squeeze_mask")]
    for axis, (first, last, step, open_begin, open_end, single) in enumerate(zip(begin, end, stride, *masks)):
        size = x.shape[axis]
        if single:
            chosen = [first % size]
        else:
            chosen = list(range(size)[slice(None if open_begin else first, None if open_end else last, step)])
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return x.squeeze(tuple(axis for axis, single in enumerate(masks[2]) if single)) if any(masks[2]) else x


def _slice_by_size(p: Parameters) -> torch.Tensor:
    """`size` elements from `begin` per axis; -1 means up to the end."""
    x: torch.Tensor = p["x"]
    for axis, (first, size) in enumerate(zip(integers(p, "begin"), integers(p, "size"))):
        x = x.narrow(axis, first, x.shape[axis] - first if size == -1 else size)
    return x


def _split(p: Parameters) -> tuple[torch.Tensor, ...]:
    x: torch.Tensor = p["x"]
    axis, sizes = int(p["axis"]), integers(p, "split_sizes")
    return torch.split(x, sizes or x.shape[axis] // int(p["num_splits"]), dim=axis)


def _concat(p: Parameters) -> torch.Tensor:
    """Interleaving takes one channel of each in turn."""
    if flag(p, "interleave"):
        return torch.stack(p["values"], dim=int(p["axis"]) + 1).flatten(int(p["axis"]), int(p["axis"]) + 1)
    return torch.cat(p["values"], dim=int(p["axis"]))


def _pad(p: Parameters) -> torch.Tensor:
    """`pad` counts (before, after) for the last dimensions, first of them first; torch wants the last first."""
    x: torch.Tensor = p["x"]
    pairs = integers(p, "pad")
    flat = [n for i in range(len(pairs) - 2, -1, -2) for n in pairs[i:i + 2]]
    mode = p.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, flat, value=number(p, "constant_val"))
    while len(flat) > 2 and flat[-2:] == [0, 0]:  # torch pads at most the last dimensions in these modes
        flat = flat[:-2]
    return F.pad(x, flat, mode=mode)


def _gather(p: Parameters) -> torch.Tensor:
    """x's slices along `axis` at `indices`, whose shape takes the axis' place; negative ones count from the end."""
    x: torch.Tensor = p["x"]
    indices, axis = p["indices"], int(number(p, "axis")) % x.ndim
    flat = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return flat.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]])


def _crop(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    (top, bottom), (left, right) = integers(p, "crop_height"), integers(p, "crop_width")
    return x[..., top:x.shape[-2] - bottom, left:x.shape[-1] - right]


def _depth_to_space(p: Parameters) -> torch.Tensor:
    """The block index varies slowest in the channels (TensorFlow's order); pixel_shuffle has it the other way."""
    x: torch.Tensor = p["x"]
    r = int(p["block_size"])
    n, c, h, w = x.shape
    return x.reshape(n, r, r, c // r ** 2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // r ** 2, h * r, w * r)


def _space_to_depth(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    r = int(p["block_size"])
    n, c, h, w = x.shape
    return x.reshape(n, c, h // r, r, w // r, r).permute(0, 3, 5, 1, 2, 4).reshape(n, c * r ** 2, h // r, w // r)


def _range_1d(p: Parameters) -> torch.Tensor:
    return torch.arange(p["start"].item(), p["end"].item(), p["step"].item(), dtype=p["start"].dtype)


HANDLERS: Mapping[str, Callable[[Parameters], Any]] = {
    "reshape": _reshape, "expand_dims": _expand_dims, "squeeze": _squeeze,
    "transpose": lambda p: p["x"].permute(integers(p, "perm")),
    "flatten2d": lambda p: p["x"].flatten(int(number(p, "axis", 1))).reshape(
        p["x"].shape[:int(number(p, "axis", 1))].numel(), -1),
    "slice_by_index": _slice_by_index, "slice_by_size": _slice_by_size, "split": _split, "concat": _concat,
    "stack": lambda p: torch.stack(p["values"], dim=int(p["axis"])),
    "tile": lambda p: p["x"].repeat(integers(p, "reps")), "pad": _pad, "crop": _crop,
    "reverse": lambda p: p["x"].flip(integers(p, "axes") or list(range(p["x"].ndim))),
    "shape": lambda p: torch.tensor(p["x"].shape, dtype=torch.int64),
    "fill": lambda p: torch.full(integers(p, "shape"), p["value"].item(), dtype=p["value"].dtype),
    "fill_like": lambda p: torch.full_like(p["ref_tensor"], p["value"].item(), dtype=p["value"].dtype),
    "range_1d": _range_1d, "gather": _gather,
    "gather_along_axis": lambda p: torch.take_along_dim(p["x"], p["indices"], dim=int(number(p, "axis"))),
    "pixel_shuffle": lambda p: F.pixel_shuffle(p["x"], int(p["upscale_factor"])),
    "pixel_unshuffle": lambda p: F.pixel_unshuffle(p["x"], int(p["downscale_factor"])),
    "depth_to_space": _depth_to_space, "space_to_depth": _space_to_depth,
    "cumsum": lambda p: p["x"].cumsum(int(number(p, "axis"))),
}
