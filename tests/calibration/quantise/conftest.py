"""What the tests of quantising share."""

from __future__ import annotations

import cv2
import pytest

from calibration.data.coverage import Chosen
from calibration.data.frames import drawn_frame
from tests import tiny


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    """Four drawn frames to calibrate on."""
    folder = tmp_path_factory.mktemp("frames")
    for i in range(4):
        assert cv2.imwrite(str(folder / f"{i}.png"), drawn_frame((32, 48), 10 * i))
    return Chosen(tuple(sorted(folder.iterdir())), tiny.SPEC.preprocess, "four drawn frames")
