"""Artifact and frames in, masks out: numpy, OpenCV and one engine.

    from runtime import Segmenter, Stream, open_artifact
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.artifact import Artifact, open_artifact
    from runtime.result import Result, StreamResult
    from runtime.segmenter import Segmenter
    from runtime.stream import Stream

__all__ = ["Artifact", "Result", "Segmenter", "Stream", "StreamResult", "open_artifact"]

_HOME = {"Artifact": "runtime.artifact", "open_artifact": "runtime.artifact",
         "Result": "runtime.result", "Segmenter": "runtime.segmenter",
         "Stream": "runtime.stream", "StreamResult": "runtime.result"}


def __getattr__(name: str) -> Any:
    """Import on first use, so that a command's --help loads no OpenCV."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'runtime' has no attribute {name!r}")
