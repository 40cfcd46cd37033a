"""Takes a real-time segmentation network to a camera, phone or small board, and proves what arrived.

    from edgeseg import Segmenter, Stream, open_artifact

This package holds the names that programs import, and the one command. The code itself is in
`runtime`, `calibration`, `export` and `benchmarks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime import Artifact, Result, Segmenter, Stream, StreamResult, open_artifact

__all__ = ["Artifact", "Result", "Segmenter", "Stream", "StreamResult", "open_artifact"]


def __getattr__(name: str) -> Any:
    """Import on first use, as `runtime` does: `import edgeseg` alone loads nothing."""
    if name in __all__:
        import runtime

        return getattr(runtime, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("edgeseg")
    raise AttributeError(f"module 'edgeseg' has no attribute {name!r}")
