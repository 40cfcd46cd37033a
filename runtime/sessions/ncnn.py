"""ncnn on the CPU: folders with a `.param` and a `.bin` file, on small Arm boards as on x86. No torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.contract import Port, hold_against_engine
from runtime.errors import MissingLibrary, UserError
from runtime.sessions import Engine

ENGINE = Engine("ncnn", reads=("ncnn",), packages=("ncnn",), extra="ncnn")

PARAM, BIN = "network.param", "network.bin"
"""The two files in an artifact's folder: layers as text, weights."""


def library() -> Any:
    """ncnn's module.

    Raises:
        MissingLibrary: it is not installed.
    """
    try:
        import ncnn
    except ImportError as error:
        raise MissingLibrary("ncnn", "running ncnn's folders", "ncnn") from error
    return ncnn


class NcnnSession:
    """One loaded network, for one thread at a time; every `run` returns fresh memory.

    ncnn reads planes of float32, so that a frame's bytes are converted here, by ncnn's own function. Memory comes from
    pools, as its documentation recommends: what one frame used, the next one finds.

    Args:
        folder: holds `PARAM` and `BIN`.
        threads: threads within one frame; None for ncnn's own choice, one for each big core.
        half: compute in float16 where the processor does; without it, float32 stays float32 there.
    """

    reuses_output = False

    def __init__(self, folder: Path, *, threads: int | None = None, half: bool = False) -> None:
        ncnn = library()
        self._net: Any = ncnn.Net()  # the first attribute is the first to go, and it lives in the pools
        self._blobs, self._workspace = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        self._mat, self._bgr = ncnn.Mat, ncnn.Mat.PixelType.PIXEL_BGR
        options = self._net.opt
        options.blob_allocator, options.workspace_allocator = self._blobs, self._workspace
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = half
        if threads:
            options.num_threads = threads
        if self._net.load_param(os.fspath(folder / PARAM)) or self._net.load_model(os.fspath(folder / BIN)):
            raise UserError(f"ncnn cannot load {folder}; expected {PARAM} and {BIN} with layers that it has",
                            try_="export it again, or pip install --upgrade ncnn")

    def ports(self) -> tuple[list[Port], list[Port]]:
        """The network's inputs, as `run` takes them, and its outputs. ncnn states no shapes."""
        return ([Port(name, None, "uint8") for name in self._net.input_names()],
                [Port(name, None, "float32") for name in self._net.output_names()])

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [1, H, W, 3] BGR → float32 [1, C, h, w]."""
        return self.read(x, self._net.output_names())[0][None]

    def read(self, x: npt.NDArray[np.uint8], names: list[str]) -> list[npt.NDArray[np.float32]]:
        """uint8 [1, H, W, 3] BGR → float32 blobs by name, as ncnn shapes them: without batch. Copied out of the pool,
        which may be gone when they are used."""
        extractor = self._net.create_extractor()
        extractor.set_light_mode(len(names) == 1)  # which gives a blob back as soon as nothing else reads it
        _, height, width, _ = x.shape
        extractor.input(self._net.input_names()[0], self._mat.from_pixels(
            np.ascontiguousarray(x), self._bgr, width, height, self._blobs))
        return [self._blob(extractor, name) for name in names]

    @staticmethod
    def _blob(extractor: Any, name: str) -> npt.NDArray[np.float32]:
        code, blob = extractor.extract(name)
        if code:
            raise UserError(f"ncnn cannot compute {name} (error {code}); expected enough memory and a frame of the "
                            "artifact's size", try_="export the network again")
        return np.array(blob)

    def close(self) -> None:
        """Release the network, and then the pools that it lives in."""
        if self._net is not None:
            self._net.clear()
        self._net = None


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> NcnnSession:
    """Open an artifact's folder; see `runtime.sessions.open_session`."""
    session = NcnnSession(path, threads=threads, half=artifact.precision == "fp16")
    hold_against_engine(artifact, *session.ports())
    return session
