"""A segmenter in a process of its own, here or on a board: frames go there, masks come back."""

from __future__ import annotations

import base64
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from benchmarks.worker import MeasuringWorker, png

if TYPE_CHECKING:
    from runtime.board import Board
    from runtime.preprocess import Frame
    from runtime.result import Result


class Remote:
    """Stands where a `runtime.Segmenter` does, for its masks, so that engines share no process and an engine that
    crashes ends nothing else. Use it as a context manager.

    Args:
        path, engine, threads: as in `Segmenter.open`.
        on: the board; None for this machine.

    Attributes:
        artifact: as that of a `Segmenter`.
        machine: as `benchmarks.machine.describe` has it, for rows.

    Raises:
        UserError: the board or the artifact on it cannot be used.
        Incomplete: the process ended.
    """

    def __init__(self, path: Path, on: Board | None, engine: str | None = None, threads: int | None = None) -> None:
        from runtime.artifact import open_artifact

        self.artifact, _ = open_artifact(path)
        self._worker = MeasuringWorker(path, threads, engine, None, on)

    @property
    def machine(self) -> dict[str, Any]:
        return self._worker.machine

    def __call__(self, frame: Frame) -> Result:
        """uint8 [H, W, 3] BGR → its mask, uint8 [H, W]; without times, as those would include the connection's.

        Raises:
            Incomplete: the process ended, or the connection was lost.
        """
        import cv2
        import numpy as np

        from runtime.result import Result

        answer = base64.b64decode(self._worker.ask(frame=png(frame))["mask"])
        mask = cv2.imdecode(np.frombuffer(answer, np.uint8), cv2.IMREAD_UNCHANGED)
        return Result(np.asarray(mask, np.uint8), {}, frame, self.artifact, None)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._worker.close()
