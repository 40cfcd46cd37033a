"""The exact mask: low-resolution logits in, a class map at frame size out, without full-size logits.

It equals bilinear interpolation followed by argmax, and does only the work that this takes. An interpolated logit is a
convex combination of the four around it, the corners of its cell. Hence two facts, both exact:

1. Where the four corners have the same best class, every pixel between them has it too: such pure cells are filled.
2. A class that one other class beats at all four corners wins nowhere in between: in the other, mixed cells only the
   few classes that are left are interpolated, the cells of a frame side by side.

Rounding may differ from torch's in the last bit, so where the two best classes of a pixel are closer together than
that, either may be returned. Such ties apart, no pixel differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import OutputKind
from runtime.errors import UserError

Float = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]
ClassMap = npt.NDArray[np.uint8]

LOGITS_AT_ONCE = 1 << 17
"""Logits of mixed cells that are worked on together. It bounds memory to a few MB, whatever the frame and classes."""


def planes(y: npt.NDArray[Any], layout: str) -> npt.NDArray[Any]:
    """An engine's logits for one frame → [C, h, w], a view.

    Args:
        y: [h, w, C] or [C, h, w], without batch dimension.
        layout: of the artifact's output, batch dimension included: "NHWC" or "NCHW".
    """
    return np.moveaxis(y, -1, 0) if layout == "NHWC" else y


def from_output(y: npt.NDArray[Any], kind: OutputKind, layout: str, size: tuple[int, int], *,
                align_corners: bool = False) -> ClassMap:
    """What an engine returned for one frame → the class of every pixel.

    Args:
        y: its output without batch dimension: logits, or a class map.
        kind: of the artifact.
        layout: of the artifact's output.
        align_corners: of the artifact.
        size: frame (H, W) in pixels.

    Returns:
        uint8 [H, W].

    Raises:
        UserError: as `class_map`.
    """
    if kind is OutputKind.CLASSES:
        return resize_classes(y.astype(np.uint8, copy=False), size)
    return class_map(planes(y, layout), size, align_corners=align_corners)


def class_map(logits: Float, size: tuple[int, int], *, align_corners: bool = False) -> ClassMap:
    """The class of every pixel of a frame.

    Equal to `torch.nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=align_corners)`
    followed by `argmax(1)`, ties aside. Linear in the number of mixed cells.

    Args:
        logits: float32 [C, h, w], 1 to 255 classes, all finite; any strides, so a transposed NHWC output will do.
        size: frame (H, W) in pixels, larger or smaller than (h, w).
        align_corners: whether the centres (True) or the outer borders (False) of the outermost samples and of the
            outermost pixels coincide.

    Returns:
        uint8 [H, W], contiguous, in memory of its own.

    Raises:
        UserError: another shape, dtype or size, or a logit that is infinite or not a number.
    """
    planes = _planes(logits, size)
    rows, columns = _axes(logits, size, align_corners)
    best = _best(planes)[0]
    best_at = [best.reshape(logits.shape[1:]).take(y, axis=0).take(x, axis=1)
               for y in (rows.near, rows.far) for x in (columns.near, columns.far)]
    classes: ClassMap = best_at[0].take(columns.cell, axis=1).take(rows.cell, axis=0)

    mixed = np.nonzero((best_at[0] != best_at[1]) | (best_at[0] != best_at[2]) | (best_at[0] != best_at[3]))
    step = max(1, LOGITS_AT_ONCE // max(len(planes), len(rows.pixels) * len(columns.pixels)))
    for start in range(0, len(mixed[0]), step):
        i, j = (index[start:start + step] for index in mixed)
        corners = np.stack([y[i] * logits.shape[2] + x[j] for y in (rows.near, rows.far)
                            for x in (columns.near, columns.far)])
        able = _able(planes, corners, best.take(corners))
        order = np.argsort(-able.sum(axis=0), kind="stable")
        y, x = rows.pixels.take(i[order], axis=1)[:, None], columns.pixels.take(j[order], axis=1)
        classes.reshape(-1)[y * size[1] + x] = _winners(
            planes, corners.take(order, axis=1), able.take(order, axis=1), rows.weight.take(y), columns.weight.take(x))
    return classes


def class_map_with_confidence(logits: Float, size: tuple[int, int], *,
                              align_corners: bool = False) -> tuple[ClassMap, Float]:
    """The class of every pixel of a frame, and how sure the network is of it.

    No pixel can be spared here, so that this costs about C exponentials per pixel; it needs memory for C logits per
    pixel of a few rows only.

    Args:
        logits: as for `class_map`.
        size: as for `class_map`.
        align_corners: as for `class_map`.

    Returns:
        The class map as `class_map` returns it, ties aside; and float32 [H, W], the softmax probability of that class
        after interpolation, above 0 and up to 1.

    Raises:
        UserError: as `class_map`.
    """
    planes = _planes(logits, size)
    rows, columns = _axes(logits, size, align_corners)
    narrow = planes.reshape(logits.shape)
    wide = _between(narrow.take(columns.near[columns.cell], axis=2), narrow.take(columns.far[columns.cell], axis=2),
                    columns.weight)
    classes, confidence = np.empty(size, np.uint8), np.empty(size, np.float32)
    for near, far, first, last in zip(rows.near, rows.far, rows.pixels[0], rows.pixels[-1]):
        strip = slice(first, last + 1)
        full = _between(wide[:, near, None], wide[:, far, None], rows.weight[strip, None])
        classes[strip], top = _best(full)
        full -= top
        np.divide(1, np.exp(full, out=full).sum(axis=0), out=confidence[strip])
    return classes, confidence


def resize_classes(classes: ClassMap, size: tuple[int, int]) -> ClassMap:
    """A class map brought to another size: every pixel takes the class of the cell that its centre lies in.

    Args:
        classes: uint8 [h, w].
        size: frame (H, W) in pixels.

    Returns:
        uint8 [H, W]; `classes` itself when it has that size already.
    """
    if classes.shape == tuple(size):
        return classes
    y, x = (((np.arange(target) + 0.5) * (source / target)).astype(np.intp)
            for source, target in zip(classes.shape, size))
    resized: ClassMap = classes.take(x, axis=1).take(y, axis=0)
    return resized


@dataclass(frozen=True)
class _Axis:
    """One axis of the frame, cut into cells: runs of pixels that lie between the same two samples of the logits.

    Attributes:
        near, far: [cells] the two samples, as indices; the same one where all pixels lie on it or beyond the last.
        pixels: [longest, cells] the pixels of each cell; a shorter cell repeats its last one.
        cell: [pixels] the cell of each pixel.
        weight: [pixels] the share of `far`, 0..1.
    """

    near: Index
    far: Index
    pixels: Index
    cell: Index
    weight: Float


@lru_cache(maxsize=64)
def _axis(source: int, target: int, align_corners: bool) -> _Axis:
    """Where `target` pixels lie among `source` samples.

    Bit for bit the positions of ATen (`area_pixel_compute_source_index` and `guard_index_and_lambda` in
    aten/src/ATen/native/UpSample.h), because at sample 100 a rounded position is off by 1e-5, far more than a rounded
    logit. ATen multiplies by a float32 scale and adds in one fused operation, hence one rounding at the end here.
    """
    pixel = np.arange(target, dtype=np.float64)
    if align_corners:
        position = (pixel * np.float32((source - 1) / max(target - 1, 1))).astype(np.float32)
    else:
        position = ((pixel + 0.5) * np.float32(source / target) - 0.5).astype(np.float32)
    inside = np.maximum(position, np.float32(0))
    near = np.minimum(inside.astype(np.intp), source - 1)
    weight = np.clip(inside - near.astype(np.float32), 0, 1)
    # The pixels before the first sample repeat it. As a cell of their own they leave the next one as short as others.
    first = np.flatnonzero(np.diff(np.where(position < 0, -1, near), prepend=-2))
    length = np.diff(first, append=target)
    pixels = first + np.minimum(np.arange(length.max())[:, None], length - 1)
    far = np.minimum(near[first] + (np.maximum.reduceat(weight, first) > 0), source - 1)
    return _Axis(near[first], far, pixels, np.repeat(np.arange(len(first)), length), weight)


def _axes(logits: Float, size: tuple[int, int], align_corners: bool) -> tuple[_Axis, _Axis]:
    return (_axis(logits.shape[1], size[0], align_corners), _axis(logits.shape[2], size[1], align_corners))


def _planes(logits: Float, size: tuple[int, int]) -> Float:
    """The logits as contiguous [C, h·w], once they have been found usable."""
    if logits.ndim != 3 or logits.dtype != np.float32 or not 1 <= len(logits) <= 255 or not logits.size:
        raise UserError(f"logits of shape {logits.shape} and dtype {logits.dtype} were received; "
                        "expected float32 [classes, height, width] with 1 to 255 classes")
    if min(size) < 1:
        raise UserError(f"a mask of size {size[0]}x{size[1]} was asked for; expected a positive height and width")
    planes = np.ascontiguousarray(logits).reshape(len(logits), -1)
    if not np.isfinite(planes).all():
        raise UserError("the logits hold infinite values or NaN, so the network overflowed; expected finite numbers",
                        try_="an artifact of higher precision, such as --precision fp32")
    return planes


def _between(near: Float, far: Float, weight: Float) -> Float:
    """Linear interpolation, weight 0..1 from `near` to `far`."""
    result: Float = (far - near) * weight
    result += near
    return result


def _best(planes: Float) -> tuple[ClassMap, Float]:
    """argmax and max over the first axis; the first class where several are equal."""
    top, best = planes[0].copy(), np.zeros(planes.shape[1:], np.uint8)
    for k in range(1, len(planes)):
        _challenge(top, best, planes[k], np.uint8(k))
    return best, top


def _challenge(top: Float, best: ClassMap, logits: Float, classes: ClassMap | np.uint8) -> None:
    """Update the best logit and its class, in place, with classes that are higher than all before.

    Because they are higher, a maximum can take the place of a masked assignment, which numpy does 20 times slower.
    """
    better = logits > top
    np.maximum(top, logits, out=top)
    np.maximum(best, better.view(np.uint8) * classes, out=best)


def _able(planes: Float, corners: Index, best: ClassMap) -> npt.NDArray[np.bool_]:
    """Which classes may win somewhere in each mixed cell: those that no corner's winner beats at all four corners.

    `planes` [C, h·w] are the logits, `corners` [4, n] says where in a plane the cells' corners are, and `best` [4, n]
    which class wins there. Returns bool [C, n].
    """
    around = planes.take(corners, axis=1)
    beaten = np.zeros((len(planes), corners.shape[1]), np.bool_)
    for winner in best:
        its = planes.reshape(-1).take(winner * np.intp(planes.shape[1]) + corners)
        beaten |= (around <= its).all(axis=1)
    beaten[best, np.arange(corners.shape[1])] = False  # each winner has just been compared with itself
    return ~beaten


def _winners(planes: Float, corners: Index, able: npt.NDArray[np.bool_], down: Float, across: Float) -> ClassMap:
    """Interpolate every cell's first able class, then the second of those that have one, and so on; keep the best.

    Cells are the last axis throughout: they are many, and a cell's pixels too few for a vectorised inner loop.

    `planes` and `corners` as for `_able`; `able` is bool [C, n], the cells in falling order of how many classes can
    win; `down` [pixels, 1, n] are the weights of the lower corners, `across` [pixels, n] those of the right ones.
    Returns uint8 [pixels down, pixels across, n].
    """
    count = able.sum(axis=0)
    k, cell = np.nonzero(able)
    rising = np.zeros((count[0], len(count)), np.intp)
    rising[able.cumsum(axis=0)[k, cell] - 1, cell] = k

    top = _interpolated(planes, corners, rising[0], down, across)
    best = np.empty(top.shape, np.uint8)
    best[:] = rising[0]
    for tried in range(1, len(rising)):
        n = np.count_nonzero(count > tried)
        classes = rising[tried, :n]
        logits = _interpolated(planes, corners[:, :n], classes, down[..., :n], across[:, :n])
        _challenge(top[..., :n], best[..., :n], logits, classes.astype(np.uint8))
    return best


def _interpolated(planes: Float, corners: Index, classes: Index, down: Float, across: Float) -> Float:
    """One class per cell at all of its pixels: float32 [pixels down, pixels across, n]; see `_winners`."""
    above_left, above_right, below_left, below_right = planes.reshape(-1).take(classes * planes.shape[1] + corners)
    return _between(_between(above_left, below_left, down), _between(above_right, below_right, down), across)
