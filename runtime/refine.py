"""Sharper outlines by a dense conditional random field, as DeepLab v1 and v2 end with; `--refine crf`.

Krähenbühl, Koltun: "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011
(https://arxiv.org/abs/1210.5644): equation 3 the two kernels, algorithm 1 the mean field. The appearance kernel is
filtered on a permutohedral lattice (Adams, Baek, Davis: "Fast High-Dimensional Filtering Using the Permutohedral
Lattice", Eurographics 2010, §3), the smoothness kernel is a plain Gaussian blur. No maintained library of it installs
on Python 3.11; this is numpy, and takes seconds rather than milliseconds a frame: for images, not for video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact, OutputKind
from runtime.errors import UserError
from runtime.mask import class_map, planes
from runtime.preprocess import Frame

Float = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]

ALIVE = 0.01
"""A class that no pixel gives this probability takes no part; it could not win, and costs as much as any other."""


def crf(artifact: Artifact) -> Callable[[Frame, npt.NDArray[Any], Mask], Mask]:
    """What `runtime.stream.Stream` takes as `refine`: the field at the network's input size, brought to frame size.

    Args:
        artifact: what gives the logits.

    Returns:
        (frame, the engine's output without its batch dimension, mask) → refined mask of the frame's size.

    Raises:
        UserError: the artifact returns classes rather than logits.
    """
    if artifact.output_kind is OutputKind.CLASSES:
        raise UserError(f"{artifact.file} returns classes, and a refinement starts from logits",
                        try_=f"python -m export.{artifact.target} {artifact.name} --output low")
    field = DenseCRF()

    def refine(frame: Frame, output: npt.NDArray[Any], mask: Mask) -> Mask:
        logits = planes(output, artifact.output.layout)
        small = artifact.preprocess(frame)[0]
        logits = upsampled(np.asarray(logits, np.float32), small.shape[:2], artifact.align_corners)
        return class_map(field(small, logits), mask.shape, align_corners=artifact.align_corners)

    return refine


TINY = np.float32(1e-20)


@dataclass(frozen=True)
class DenseCRF:
    """The field's weights and widths. The defaults did best on eight frames of CamVid's training set.
    The papers' own, for PASCAL VOC, are 4, 67, 3, 3, 1 and 10: poles and signs are thinner than their objects.

    Attributes:
        appearance: weight of "near and of the same colour".
        position: its width in pixels, θα.
        colour: its width in levels of 0..255, θβ.
        smoothness: weight of "near".
        radius: its width in pixels, θγ.
        steps: mean-field iterations.
    """

    appearance: float = 4.0
    position: float = 20.0
    colour: float = 3.0
    smoothness: float = 0.3
    radius: float = 1.0
    steps: int = 3

    def __call__(self, frame: Frame, logits: Float) -> Float:
        """Refine logits by the picture that they belong to.

        Args:
            frame: uint8 [H, W, 3], any colour order.
            logits: float32 [C, H, W], the same size.

        Returns:
            float32 [C, H, W], the log of the field's marginals; its argmax is the refined mask.
        """
        classes, height, width = logits.shape
        marginals = _softmax(logits.reshape(classes, -1))
        alive = marginals.max(1) > ALIVE
        unary = np.log(marginals[alive] + TINY)
        lattice = Lattice(features(frame, self.position, self.colour))
        norm = 1 / np.sqrt(lattice(np.ones((1, height * width), np.float32)) + TINY)
        field = unary
        for _ in range(self.steps):
            beliefs = _softmax(field)
            alike = norm * lattice(norm * beliefs)
            close = _blurred(beliefs.reshape(-1, height, width), self.radius).reshape(beliefs.shape)
            # Potts compatibility: what others say for a class counts for it; the constant cancels in the softmax.
            field = unary + self.appearance * alike + self.smoothness * close
        marginals[~alive] = 0
        marginals[alive] = _softmax(field)
        return np.asarray(np.log(marginals + TINY), np.float32).reshape(logits.shape)


def features(frame: Frame, position: float, colour: float) -> Float:
    """[5, H·W]: row, column and colour of each pixel, in units of the kernel's widths."""
    height, width = frame.shape[:2]
    rows, columns = np.mgrid[:height, :width].reshape(2, -1) / position
    return np.vstack((rows, columns, frame.reshape(-1, 3).T / colour)).astype(np.float32)


def upsampled(logits: Float, size: tuple[int, int], align_corners: bool) -> Float:
    """Bilinear interpolation of [C, h, w] to [C, H, W], as torch's `interpolate` does it."""
    rows, columns = (_weights(n, m, align_corners) for n, m in zip(logits.shape[1:], size))
    return np.asarray(np.matmul(rows, np.matmul(logits, columns.T)), np.float32)


def _weights(count: int, size: int, align_corners: bool) -> Float:
    """[size, count]: how much each input cell counts for each output pixel."""
    at = np.arange(size) * ((count - 1) / max(size - 1, 1)) if align_corners else \
        (np.arange(size) + 0.5) * (count / size) - 0.5
    at = at.clip(0, count - 1)
    low = np.floor(at).astype(np.intp)
    high = np.minimum(low + 1, count - 1)
    weights = np.zeros((size, count), np.float32)
    np.add.at(weights, (np.arange(size), low), (1 - (at - low)).astype(np.float32))
    np.add.at(weights, (np.arange(size), high), (at - low).astype(np.float32))
    return weights


def _softmax(field: Float) -> Float:
    """Over classes, the first axis."""
    powers: Float = np.exp(field - field.max(0))
    powers /= powers.sum(0)
    return powers


def _blurred(marginals: Float, radius: float) -> Float:
    """Gaussian blur of every class, normalised symmetrically, as the authors' code normalises both kernels."""
    import cv2

    def blur(plane: Float) -> Float:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), radius, borderType=cv2.BORDER_CONSTANT), np.float32)

    norm = 1 / np.sqrt(blur(np.ones(marginals.shape[1:], np.float32)))
    return np.stack([norm * blur(norm * plane) for plane in marginals])


class Lattice:
    """A Gaussian filter of unit width over scattered points of d dimensions.

    Args:
        points: float32 [d, N].
    """

    def __init__(self, points: Float) -> None:
        self.d = len(points)
        remainder, rank, self.share = _enclosing_simplex(points)
        codes = self._vertices(remainder, rank)
        self.known, index = np.unique(codes, return_inverse=True)
        self.index = index.reshape(codes.shape)
        self.neighbours = [(self._find(self.known - step), self._find(self.known + step)) for step in self.steps]

    def _vertices(self, remainder: npt.NDArray[np.int64], rank: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[d+1, N] codes of the simplex's corners. A lattice point is known by its first d coordinates, packed into
        one integer, so that a neighbour is a constant difference away."""
        d = self.d
        low = remainder[:d].min(1, keepdims=True) - 2 * (d + 1)
        extent = remainder[:d].max(1, keepdims=True) + 2 * (d + 1) - low + 1
        place = np.cumprod(np.vstack(([[1]], extent[:-1])), axis=0)
        assert float(np.prod(extent.astype(float))) < 2**62, "colours or positions are spread too wide for their widths"
        # Along axis j a step changes every coordinate by 1 and coordinate j by -d; coordinate d is implied.
        self.steps = [int(place.sum() - (place[j, 0] * (d + 1) if j < d else 0)) for j in range(d + 1)]
        base: npt.NDArray[np.int64] = ((remainder[:d] - low) * place).sum(0)
        corners = np.arange(d + 1)[:, None, None]
        offset = np.where(rank[None, :d] <= d - corners, corners, corners - (d + 1))
        codes: npt.NDArray[np.int64] = base + (offset * place).sum(1)
        return codes

    def _find(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Index of each code among the known ones; one past the end, where a zero is kept, for the others."""
        at = np.searchsorted(self.known, codes).clip(max=len(self.known) - 1)
        return np.where(self.known[at] == codes, at, len(self.known))

    def __call__(self, values: Float) -> Float:
        """Filter float32 [C, N]: splat to the lattice, blur along its d+1 directions, slice (§3.2 to §3.4)."""
        count, n = len(self.known), values.shape[1]
        flat, share = self.index.ravel(), self.share
        grid = np.zeros((count + 1, len(values)), np.float32)
        for c, plane in enumerate(values):
            grid[:count, c] = np.bincount(flat, (share * plane).ravel(), count)
        for before, after in self.neighbours:
            grid[:count] += 0.5 * (grid[before] + grid[after])
        out = np.zeros((n, len(values)), np.float32)
        for corner, weight in zip(self.index, share):
            out += weight[:, None] * grid[corner]
        return np.ascontiguousarray(out.T) / np.float32(1 + 2.0 ** -self.d)


def _enclosing_simplex(points: Float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float]:
    """Adams et al., §3.1: where each point lies on the lattice.

    Returns:
        The nearest zero-remainder point [d+1, N], the rank of each coordinate's distance from it [d+1, N], and the
        barycentric weight of each of the simplex's corners [d+1, N].
    """
    d, n = points.shape
    scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
    scaled = points * scale[:, None]
    elevated = np.empty((d + 1, n))
    total = np.zeros(n)
    for i in range(d, 0, -1):
        elevated[i] = total - i * scaled[i - 1]
        total += scaled[i - 1]
    elevated[0] = total
    remainder = (np.rint(elevated / (d + 1)) * (d + 1)).astype(np.int64)
    excess = remainder.sum(0) // (d + 1)
    distance = elevated - remainder
    order = np.argsort(-distance, axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(d + 1)[:, None], axis=0)
    rank += excess  # back onto the plane where coordinates sum to zero
    turn = (rank < 0).astype(np.int64) - (rank > d)
    rank += turn * (d + 1)
    remainder += turn * (d + 1)
    part = (elevated - remainder) / (d + 1)
    share = np.zeros((d + 2, n))
    for i in range(d + 1):
        np.add.at(share, (d - rank[i], np.arange(n)), part[i])
        np.add.at(share, (d + 1 - rank[i], np.arange(n)), -part[i])
    share[0] += 1 + share[d + 1]
    return remainder, rank.astype(np.int64), share[:d + 1].astype(np.float32)
