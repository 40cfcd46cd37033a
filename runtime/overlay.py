"""What people look at: the frame tinted by class, a legend, and a line of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from runtime.preprocess import Frame

Mask = npt.NDArray[np.uint8]
"""uint8 [H, W], class indices."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Painter:
    """Draws masks over frames.

    Args:
        classes: names, index order.
        palette: one (R, G, B) per class.
        alpha: weight of the class colours over the frame, 0..1.
    """

    def __init__(self, classes: Sequence[str], palette: Sequence[tuple[int, int, int]], alpha: float = 0.5) -> None:
        self._classes = classes
        self._alpha = alpha
        self._colours = np.zeros((256, 1, 3), dtype=np.uint8)  # BGR lookup table, as cv2.applyColorMap takes it
        self._colours[: len(palette), 0] = np.asarray(palette, dtype=np.uint8)[:, ::-1]
        self._legend_for: tuple[int, ...] = (0, 0)
        self._legend: Frame = np.empty((0, 0, 3), dtype=np.uint8)

    def __call__(self, frame: Frame, mask: Mask, line: str = "") -> Frame:
        """Tint `frame` by class and add the legend.

        Args:
            frame: uint8 [H, W, 3] BGR.
            mask: uint8 [H, W].
            line: shown at the top left; empty for none.

        Returns:
            uint8 [H, W, 3] BGR, new memory.
        """
        canvas = np.asarray(cv2.applyColorMap(mask, self._colours), dtype=np.uint8)
        cv2.addWeighted(canvas, self._alpha, frame, 1 - self._alpha, 0, dst=canvas)
        if self._legend_for != frame.shape[:2]:
            self._legend_for = frame.shape[:2]
            self._legend = self._draw_legend(frame.shape[1], frame.shape[0])
        rows = min(len(self._legend), len(canvas))
        canvas[len(canvas) - rows:] = self._legend[:rows]
        if line:
            self._write_line(canvas, line)
        return canvas

    def _draw_legend(self, width: int, height: int) -> Frame:
        """A strip of colour chips with names, wrapped to `width` pixels."""
        scale, row, chip = _text_scale(height), _row_height(height), _row_height(height) // 2
        places: list[tuple[int, int]] = []
        x, y = chip, 0
        for name in self._classes:
            needed = 2 * chip + cv2.getTextSize(name, _FONT, scale, 1)[0][0] + chip
            if x + needed > width and x > chip:
                x, y = chip, y + row
            places.append((x, y))
            x += needed
        strip = np.full((y + row, width, 3), 24, dtype=np.uint8)
        for index, (name, (x, y)) in enumerate(zip(self._classes, places)):
            colour = self._colours[index, 0].tolist()
            top = y + (row - chip) // 2
            cv2.rectangle(strip, (x, top), (x + chip, top + chip), colour, -1)
            cv2.rectangle(strip, (x, top), (x + chip, top + chip), (200, 200, 200), 1)
            cv2.putText(strip, name, (x + chip + chip // 2, top + chip), _FONT, scale, (235, 235, 235), 1, cv2.LINE_AA)
        return strip

    def _write_line(self, canvas: Frame, line: str) -> None:
        scale, row = _text_scale(canvas.shape[0]), _row_height(canvas.shape[0])
        width = cv2.getTextSize(line, _FONT, scale, 1)[0][0] + row
        canvas[:row, :width] //= 3
        cv2.putText(canvas, line, (row // 2, row * 2 // 3), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _text_scale(height: int) -> float:
    return max(height / 1100, 0.33)


def _row_height(height: int) -> int:
    return max(height // 26, 16)


class ContactSheet:
    """Keeps a few pictures, evenly spread over a stream of unknown length.

    Every `_step`-th picture is kept; when there are twice as many as wanted, every other one is dropped.
    """

    def __init__(self, count: int = 12) -> None:
        self._count = count
        self._step = 1
        self.seen = 0
        self._pictures: list[Frame] = []

    def add(self, picture: Frame) -> None:
        """Offer the next picture, uint8 [H, W, 3] BGR."""
        if self.seen % self._step == 0:
            self._pictures.append(picture.copy())
            if len(self._pictures) == 2 * self._count:
                self._pictures = self._pictures[::2]
                self._step *= 2
        self.seen += 1

    def draw(self, columns: int = 3, width: int = 480) -> Frame:
        """All kept pictures in a grid, uint8 [H, W, 3] BGR, each `width` pixels wide."""
        assert self._pictures, "a sheet of no pictures"
        chosen = [self._pictures[i] for i in np.linspace(0, len(self._pictures) - 1,
                                                         min(self._count, len(self._pictures))).round().astype(int)]
        height = chosen[0].shape[0] * width // chosen[0].shape[1]
        tiles = [np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)) for picture in chosen]
        tiles += [np.full_like(tiles[0], 24)] * (-len(tiles) % columns)
        rows = [np.hstack(tiles[i:i + columns]) for i in range(0, len(tiles), columns)]
        return np.asarray(np.vstack(rows), dtype=np.uint8)
