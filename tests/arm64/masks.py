"""Masks of artifacts through one engine, to be held against those of another machine; run on either side.

    python -m tests.arm64.masks FRAMES.npy FOLDER ENGINE ARTIFACT…

FRAMES.npy is uint8 [N, H, W, 3] BGR. FOLDER/<artifact's file>.npy becomes uint8 [N, H, W], one as soon as it is done,
so that an engine that ends the process leaves what was finished before.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from runtime import Segmenter


def masks(frames: Path, folder: Path, engine: str, artifacts: list[Path]) -> None:
    """Write the masks, see above."""
    for artifact in artifacts:
        with Segmenter.open(artifact, threads=2, engine=engine) as segmenter:
            np.save(folder / f"{artifact.name}.npy", np.stack([segmenter(frame).mask for frame in np.load(frames)]))


if __name__ == "__main__":
    masks(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [Path(word) for word in sys.argv[4:]])
