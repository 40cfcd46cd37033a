"""The command measures what ships: the artifact's own engine, preprocessing and mask."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from calibration.data.frames import drawn_frame
from runtime import Segmenter
from runtime.artifact import OutputKind
from tests import tiny

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.artifact(tmp_path_factory.mktemp("engine"), OutputKind.LOW)


@pytest.fixture
def folder(engine: Path, tmp_path: Path) -> Path:
    """Frames whose labels are the network's own masks, but for a tenth of frame b's rows."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    with Segmenter.open(engine) as segmenter:
        for index, name in enumerate(NAMES):
            frame = drawn_frame((40, 60), index)
            label = segmenter(frame).mask
            if name == "b":
                label[:4] = (label[:4] + 1) % 11
            label[-1] = 255
            cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), frame)
            cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), label)
    return tmp_path


def test_a_network_agrees_with_its_own_masks_and_the_rest_is_counted(
        engine: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {name: folder / name for name in ("frames.csv", "worst.png", "figures.json")}
    assert benchmarks.main(["accuracy", str(engine), "--data", str(folder), "--csv", str(outputs["frames.csv"]),
                            "--worst", str(outputs["worst.png"]), "--json", str(outputs["figures.json"])]) == 0
    figures = json.loads(outputs["figures.json"].read_text())
    assert figures["pixel_accuracy"] == pytest.approx(1 - 4 * 60 / (3 * 39 * 60))
    assert figures["miou_interval"][0] <= figures["miou"] <= figures["miou_interval"][1]
    with outputs["frames.csv"].open() as stream:
        rows = {row["frame"]: row for row in csv.DictReader(stream)}
    assert [rows[n]["miou"] == "1.00000" for n in NAMES] == [True, False, True]
    picture = cv2.imread(str(outputs["worst.png"]))
    assert picture.shape == (3 * 320, 4 * 480, 3)
    assert np.any(picture[10, 1500:1900] == 230)  # the wrong rows of the worst frame, in red
    assert "mIoU" in capsys.readouterr().out.splitlines()[-1]


def test_a_bad_label_ends_with_one_line_and_writes_nothing(
        engine: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(folder / "labels" / "b.png"), np.full((40, 60), 77, np.uint8))
    assert benchmarks.main(["accuracy", str(engine), "--data", str(folder), "--csv", str(folder / "frames.csv")]) == 2
    error = capsys.readouterr().err
    assert "b.png has the label value 77" in error
    assert error.count("\n") == 1
    assert not (folder / "frames.csv").exists()
