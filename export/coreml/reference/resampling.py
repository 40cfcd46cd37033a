"""Images at other sizes and at computed places (MIL ops reference: image_resizing).

The grids are written out as the reference gives them, instead of calling torch's own interpolation: a misread
convention is exactly the mistake that this evaluator is there to find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from export.coreml.reference.arithmetic import Parameters, flag, integers, number
from export.coreml.reference.read import unknown


def grid(mode: str, size: int, target: int) -> torch.Tensor:
    """Where the `target` output positions lie on an axis of `size` pixels: float64, within 0..size-1.

    Args:
        mode: STRICT_ALIGN_CORNERS, ALIGN_CORNERS, DEFAULT, OFFSET_CORNERS or UNALIGN_CORNERS.
        size: of the input axis.
        target: of the output axis.

    Raises:
        UserError: an unknown mode.
    """
    i = torch.arange(target, dtype=torch.float64)
    if mode in {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"}:
        if target == 1:
            points = i + ((size - 1) / 2 if mode == "ALIGN_CORNERS" else 0)
        else:
            points = i * ((size - 1) / (target - 1))
    elif mode == "DEFAULT":
        points = i * (size / target)
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * (max(1, size - 1) / target)
    elif mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * (size / target) - 0.5
    else:
        raise unknown(f"sampling mode {mode!r}")
    return points.clamp(0, size - 1)


def _lerp(x: torch.Tensor, points: torch.Tensor, dim: int) -> torch.Tensor:
    low = points.floor().long()
    high = (low + 1).clamp(max=x.shape[dim] - 1)
    weight = (points - low).to(torch.float32).reshape([-1 if d == dim % x.ndim else 1 for d in range(x.ndim)])
    return x.index_select(dim, low) * (1 - weight) + x.index_select(dim, high) * weight


def _bilinear(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return _lerp(_lerp(x, rows, -2), columns, -1)


def _nearest(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixel floor(i × in / out), in whole numbers."""
    rows, columns = (torch.arange(n) * size // n for n, size in ((height, x.shape[-2]), (width, x.shape[-1])))
    return x.index_select(-2, rows).index_select(-1, columns)


def _scaled_size(p: Parameters) -> tuple[int, int]:
    height, width = p["x"].shape[-2:]
    return int(number(p, "scale_factor_height", 1) * height), int(number(p, "scale_factor_width", 1) * width)


def _upsample_bilinear(p: Parameters) -> torch.Tensor:
    """The scale is worked out anew from the sizes. iOS16 adds half_pixel_centers, by default the opposite of
    align_corners."""
    corners = flag(p, "align_corners", True)
    half = flag(p, "half_pixel_centers", not corners)
    if corners and half:
        raise unknown("upsample_bilinear with both align_corners and half_pixel_centers")
    mode = "STRICT_ALIGN_CORNERS" if corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    sizes = zip(p["x"].shape[-2:], _scaled_size(p))
    return _bilinear(p["x"], *(grid(mode, size, target) for size, target in sizes))


def _resize_bilinear(p: Parameters) -> torch.Tensor:
    height, width = p["x"].shape[-2:]
    mode = p.get("sampling_mode", "DEFAULT")
    return _bilinear(p["x"], grid(mode, height, int(number(p, "target_size_height", 1))),
                     grid(mode, width, int(number(p, "target_size_width", 1))))


def _resize(p: Parameters) -> torch.Tensor:
    """iOS17's general form; here for the last two axes. A 0 in `shape` keeps the size."""
    x: torch.Tensor = p["x"]
    if int(p["resized_dims"]) != 2:
        raise unknown(f"resize of {int(p['resized_dims'])} axes instead of 2")
    height, width = (wanted or size for wanted, size in zip(integers(p, "shape")[-2:], x.shape[-2:]))
    mode = p.get("sampling_mode", "DEFAULT")
    if p.get("interpolation_mode", "LINEAR") == "LINEAR":
        return _bilinear(x, grid(mode, x.shape[-2], height), grid(mode, x.shape[-1], width))
    if mode != "DEFAULT":
        raise unknown(f"resize with nearest neighbours and sampling mode {mode!r}")
    return _nearest(x, height, width)


def _to_pixels(coordinates: torch.Tensor, size: int, mode: str, corners: bool) -> torch.Tensor:
    """Coordinates along one axis → pixels, 0 at the first pixel's centre. With `corners`, the ends of the normalised
    range are the centres of the outer pixels, else their outer edges."""
    if mode == "unnormalized":
        return coordinates
    unit = (coordinates + 1) / 2 if mode == "normalized_minus_one_to_one" else coordinates
    return unit * (size - 1) if corners else unit * size - 0.5


def _fold(pixels: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    """Bring places outside of the image back, as `padding_mode` says; "constant" leaves them."""
    if mode == "border":
        return pixels.clamp(0, size - 1)
    if mode == "reflection":  # about the centres of the outer pixels
        period = max(2 * (size - 1), 1)
        folded = pixels.remainder(period)
        return torch.minimum(folded, period - folded).clamp(0, size - 1)
    if mode == "symmetric":  # about the outer edges
        folded = (pixels + 0.5).remainder(2 * size)
        return (torch.minimum(folded, 2 * size - folded) - 0.5).clamp(0, size - 1)
    return pixels


def _at(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, outside: float) -> torch.Tensor:
    """x [B, C, H, W] at whole places [B, h, w] → [B, C, h, w]; `outside` beyond the border."""
    height, width = x.shape[-2:]
    valid = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    values = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    values = values.reshape(*x.shape[:2], *rows.shape[1:])
    return torch.where(valid[:, None], values, outside)


def _resample(p: Parameters) -> torch.Tensor:
    """x [B, C, H, W] at `coordinates` [B, h, w, 2], which are (x, y)."""
    x, places = p["x"], p["coordinates"].to(torch.float32)
    padding, outside = p["padding_mode"], number(p, "padding_value")
    columns, rows = (
        _fold(_to_pixels(places[..., i], size, p["coordinates_mode"], flag(p, "align_corners")), size, padding)
        for i, size in ((0, x.shape[-1]), (1, x.shape[-2])))
    if p["sampling_mode"] == "nearest":
        return _at(x, rows.round().long(), columns.round().long(), outside)
    top, left = rows.floor().long(), columns.floor().long()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    upper = _at(x, top, left, outside) * (1 - right) + _at(x, top, left + 1, outside) * right
    lower = _at(x, top + 1, left, outside) * (1 - right) + _at(x, top + 1, left + 1, outside) * right
    return upper * (1 - down) + lower * down


HANDLERS: Mapping[str, Callable[[Parameters], Any]] = {
    "upsample_bilinear": _upsample_bilinear, "resize_bilinear": _resize_bilinear, "resize": _resize,
    "upsample_nearest_neighbor": lambda p: _nearest(p["x"], *_scaled_size(p)),
    "resize_nearest_neighbor": lambda p: _nearest(
        p["x"], int(p["target_size_height"]), int(p["target_size_width"])),
    "resample": _resample,
}
