"""Frames to verify and calibrate with: chosen from a folder of images, or drawn by ourselves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from runtime.preprocess import Frame


def evenly_spaced(paths: list[Path], count: int) -> list[Path]:
    """At most `count` paths, spread over the whole list rather than its beginning."""
    if len(paths) <= count:
        return paths
    return [paths[round(i * (len(paths) - 1) / (count - 1))] for i in range(count)] if count > 1 else paths[:1]


def drawn_frame(size: tuple[int, int], index: int) -> Frame:
    """Draw a street that moves with `index`: sky, houses, trees, road with markings, a car and a pedestrian.

    Nobody mistakes it for a photograph; it has the edges, textures, gradients and noise that make an engine's
    arithmetic show, on a machine that has no data at all.

    Args:
        size: (H, W) in pixels.
        index: frame number; the same number always gives the same frame.

    Returns:
        uint8 [H, W, 3] BGR.
    """
    height, width = size
    rng = np.random.default_rng(7)  # the same houses in every frame
    horizon = int(height * 0.45)
    frame = np.empty((height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 1, horizon)[:, None, None]
    frame[:horizon] = (1 - ramp) * (235, 190, 130) + ramp * (250, 235, 215)
    frame[horizon:] = (95, 95, 100)
    shift = index * width / 160
    for block in range(-1, 9):
        left = int(block * width / 7 - shift % (width / 7))
        tone = rng.integers(60, 190, 3).tolist()
        top = int(horizon * rng.uniform(0.25, 0.75))
        cv2.rectangle(frame, (left, top), (left + int(width / 7.5), horizon + height // 12), tone, -1)
        for x in range(left + width // 60, left + width // 8, max(width // 35, 2)):
            cv2.line(frame, (x, top + height // 40), (x, horizon), [t // 2 for t in tone], max(width // 160, 1))
    cv2.rectangle(frame, (0, horizon + height // 16), (width, horizon + height // 9), (150, 150, 160), -1)
    road = np.array([[0, height], [int(width * 0.36), horizon + height // 10],
                     [int(width * 0.64), horizon + height // 10], [width, height]], dtype=np.int32)
    cv2.fillPoly(frame, [road], (72, 70, 68))
    for mark in range(8):
        near = (mark / 8 + index / 24) % 1
        y = int(horizon + height / 10 + (height * 0.45) * near**2)
        half = int(1 + 6 * near)
        cv2.rectangle(frame, (width // 2 - half, y), (width // 2 + half, y + int(2 + 22 * near)), (230, 230, 230), -1)
    for tree in (0.08, 0.27, 0.78, 0.93):
        x, radius = int(width * tree - shift / 2) % width, max(height // 11, 2)
        cv2.line(frame, (x, horizon + height // 12), (x, horizon - height // 12), (40, 60, 80), max(width // 120, 1))
        cv2.circle(frame, (x, horizon - height // 9), radius, (50, 115, 60), -1)
    car = int(width * (0.62 + 0.08 * np.sin(index / 9)))
    cv2.rectangle(frame, (car, int(height * 0.60)), (car + width // 6, int(height * 0.72)), (40, 40, 190), -1)
    roof = (car + width // 40, int(height * 0.55)), (car + width // 8, int(height * 0.61))
    cv2.rectangle(frame, *roof, (90, 80, 70), -1)
    for wheel in (car + width // 30, car + width // 8):
        cv2.circle(frame, (wheel, int(height * 0.72)), max(height // 30, 2), (20, 20, 20), -1)
    person = int(width * 0.22 + shift / 3) % width
    cv2.rectangle(frame, (person, int(height * 0.50)), (person + width // 50, int(height * 0.68)), (130, 60, 40), -1)
    cv2.circle(frame, (person + width // 100, int(height * 0.48)), max(height // 40, 2), (150, 180, 220), -1)
    noise = np.random.default_rng(index).normal(0, 5, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)
