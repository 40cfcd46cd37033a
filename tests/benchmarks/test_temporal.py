"""The price of temporal reuse: that masks, labels and keys are counted rightly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks import measurement, temporal
from runtime.artifact import OutputKind
from tests import colours


def mask(*values: int) -> np.ndarray:
    return np.uint8([values])


def test_flicker_is_there_and_back_again_and_not_a_change_that_stays():
    assert temporal.flicker([mask(0, 0, 0, 0), mask(1, 1, 0, 1), mask(0, 1, 0, 2)]) == 0.25
    assert temporal.flicker([mask(0), mask(1)]) == 0
    assert temporal.flicker([mask(0), mask(1), mask(0), mask(1)]) == 1


@pytest.fixture
def sequence(tmp_path):
    """Six labelled frames of a number that stays, and a scene that changes in the fourth."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(6):
        number = 0b101010101010 if i < 3 else 0b010101010101
        frame = colours.numbered(number, (24, 96))
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), frame)
        cv2.imwrite(str(tmp_path / "labels" / f"{i}.png"), frame.argmax(2).astype(np.uint8))
    return tmp_path


def test_a_labelled_sequence_becomes_a_table_with_miou_flicker_and_key_frames(sequence, capsys):
    artifact = colours.artifact(sequence, (24, 96))
    rows = sequence / "rows.jsonl"
    assert temporal.main([str(artifact), "--data", str(sequence), "--every", "2", "--rounds", "1", "--rows",
                          str(rows)]) == 0
    found = {row.details["setting"]: row.values for row in measurement.read(rows)}
    assert list(found) == ["every frame", "--every 2 --warp none", "--every 2 --warp flow", "--smooth",
                           "--every 2 --smooth"]
    assert found["every frame"]["key_share"] == 1
    assert found["--every 2 --warp none"]["key_share"] == 4 / 6  # frames 0, 2, 5, and 3, where the scene changes
    assert found["--every 2 --warp none"]["agreement"] == 1
    assert found["every frame"]["miou"] > 0.9
    assert "--every 2 --warp flow" in capsys.readouterr().out


def test_a_video_without_labels_has_no_miou_and_classes_are_not_smoothed(tmp_path, capsys):
    artifact = colours.artifact(tmp_path, output=OutputKind.CLASSES)
    clip = colours.clip(tmp_path / "clip.mp4", 5)
    assert temporal.main([str(artifact), "--source", str(clip), "--every", "2", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert " – " in printed
    assert "--smooth" not in printed


@pytest.mark.parametrize("every", ["1", "0", "x", "2,,3"])
def test_every_must_leave_something_out(every, tmp_path, capsys):
    assert temporal.main(["x.onnx", "--source", "x.mp4", "--every", every]) == 2
    assert "expected numbers from 2 on" in capsys.readouterr().err


def test_two_frames_are_no_sequence(tmp_path, capsys):
    clip = colours.clip(tmp_path / "clip.mp4", 2)
    assert temporal.main([str(colours.artifact(tmp_path)), "--source", str(clip)]) == 2
    assert "at least three" in capsys.readouterr().err
