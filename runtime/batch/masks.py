"""A segment's masks as files: a PNG each, one COCO file of run-length codes, or one Parquet table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from runtime.batch.store import Store
from runtime.errors import MissingLibrary
from runtime.overlay import Mask
from runtime.video import bytes_of_png


class MaskWriter(Protocol):
    """Takes a segment's masks in order."""

    def write(self, number: int, seconds: float, mask: Mask, pixels: Sequence[int]) -> None:
        """One mask.

        Args:
            number: of the frame in its item.
            seconds: of the frame since the item's beginning.
            mask: uint8 [H, W], class indices.
            pixels: how many of each class.
        """
        ...

    def finish(self) -> None:
        """The last one was there."""
        ...


class PngWriter:
    """`NUMBER.png` for every frame: class indices, 8 bits."""

    def __init__(self, store: Store, folder: str, first: int, classes: Sequence[str]) -> None:
        self._store, self._folder = store, folder

    def write(self, number: int, seconds: float, mask: Mask, pixels: Sequence[int]) -> None:
        self._store.write(f"{self._folder}/{number:06d}.png", bytes_of_png(mask))

    def finish(self) -> None:
        pass


class RleWriter:
    """`masks-FIRST.json` for a segment, as COCO's own tools read it: an annotation for each class in each frame.

    Frames are its images, by number; category N + 1 is class N, as COCO counts from 1.
    """

    def __init__(self, store: Store, folder: str, first: int, classes: Sequence[str]) -> None:
        _need("pycocotools", "run-length codes")
        self._store, self._name = store, f"{folder}/masks-{first:06d}.json"
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = [{"id": index + 1, "name": name} for index, name in enumerate(classes)]

    def write(self, number: int, seconds: float, mask: Mask, pixels: Sequence[int]) -> None:
        from pycocotools import mask as coco

        height, width = mask.shape
        self._images.append({"id": number, "file_name": f"{number:06d}", "height": height, "width": width})
        there = [index for index, count in enumerate(pixels) if count]
        codes = coco.encode(np.asfortranarray(mask[..., None] == np.array(there), dtype=np.uint8))
        for index, code, box in zip(there, codes, coco.toBbox(codes)):
            self._annotations.append({
                "id": number * len(self._categories) + index + 1, "image_id": number, "category_id": index + 1,
                "segmentation": {"size": [height, width], "counts": code["counts"].decode("ascii")},
                "area": pixels[index], "bbox": box.tolist(), "iscrowd": 1})

    def finish(self) -> None:
        text = json.dumps({"images": self._images, "annotations": self._annotations, "categories": self._categories})
        self._store.write(self._name, text.encode())


class ParquetWriter:
    """`masks-FIRST.parquet` for a segment, a row a frame: frame, seconds, height, width, mask (PNG of class indices),
    and `pixels_CLASS`, how many pixels each class has. The files of a run together are one table."""

    def __init__(self, store: Store, folder: str, first: int, classes: Sequence[str]) -> None:
        _need("pyarrow", "Parquet")
        self._store, self._name = store, f"{folder}/masks-{first:06d}.parquet"
        self._columns = ["frame", "seconds", "height", "width", "mask", *(f"pixels_{name}" for name in classes)]
        self._rows: list[tuple[Any, ...]] = []

    def write(self, number: int, seconds: float, mask: Mask, pixels: Sequence[int]) -> None:
        self._rows.append((number, seconds, *mask.shape, bytes_of_png(mask), *pixels))

    def finish(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(dict(zip(self._columns, zip(*self._rows)))), sink)
        self._store.write(self._name, sink.getvalue().to_pybytes())


FORMATS: dict[str, Callable[[Store, str, int, Sequence[str]], MaskWriter]] = {
    "png": PngWriter, "rle": RleWriter, "parquet": ParquetWriter}
"""By the names that `--masks` takes: (store, the item's folder, number of the first frame, classes) → writer."""


def _need(package: str, purpose: str) -> None:
    import importlib

    try:
        importlib.import_module(package)
    except ImportError as error:
        raise MissingLibrary(package, f"writing masks as {purpose}", "batch") from error
