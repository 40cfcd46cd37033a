"""Picture files: images read and written."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.files import in_one_piece
from runtime.preprocess import Frame

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
"""File endings that are read as still images."""


def quiet_opencv() -> None:
    """Keep OpenCV's and FFmpeg's own remarks off stderr; a command says in its own words what is wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def image_paths(folder: str | Path) -> list[Path]:
    """All images directly in `folder`, sorted by name.

    Raises:
        UserError: the folder does not exist or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a folder of images")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if not paths:
        raise UserError(f"{folder} holds no images; expected files ending in {', '.join(sorted(IMAGES))}",
                        try_=f"ls {folder}")
    return paths


def read_image(path: Path) -> Frame:
    """Read an image as uint8 [H, W, 3] BGR.

    Raises:
        UserError: the file is not an image that OpenCV can read.
    """
    return image_from_bytes(path.read_bytes(), path)  # not cv2.imread, which cannot tell a missing file from a bad one


def image_from_bytes(data: bytes, name: object) -> Frame:
    """An image file's bytes → uint8 [H, W, 3] BGR; `name` is for the error, as in `read_image`."""
    frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if frame is None:
        raise UserError(f"{name} cannot be read as an image ({len(data)} bytes); expected a complete JPEG, PNG, …")
    return np.asarray(frame, dtype=np.uint8)


def bytes_of_png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """uint8 [H, W] or [H, W, 3] BGR as PNG."""
    ok, data = cv2.imencode(".png", image)
    assert ok, f"OpenCV cannot encode {image.shape} {image.dtype}"
    return data.tobytes()


def write_png(path: Path, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Write uint8 [H, W] or [H, W, 3] BGR as PNG; atomic.

    Raises:
        OSError: the folder is missing or read-only, or the disk is full.
    """
    data = bytes_of_png(image)
    with in_one_piece(path) as temporary:
        temporary.write_bytes(data)
