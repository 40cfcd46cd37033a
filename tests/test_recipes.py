"""Every recipe of docs/recipes.md runs as it is printed, on an artifact of three classes, and does what it says."""

from __future__ import annotations

import csv
import re

import cv2
import numpy as np
import pytest

from tests import colours
from tests.conftest import ROOT

RECIPES = dict(re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text("utf-8"),
                          re.MULTILINE | re.DOTALL))
MEANT = {"out/lraspp-360x480-fp32.onnx": "colours-16x48-low.onnx", '"Car"': '"red"', '"Pedestrian"': '"blue"'}
"""What stands in the recipes → what the test has in its place."""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a recipe in a folder with an artifact, a picture and a video; what it printed."""
    colours.artifact(tmp_path)
    colours.clip(tmp_path / "street.mp4", 5)
    frame = np.zeros((96, 288, 3), np.uint8)
    frame[:, :96, 0], frame[:, 96:, 2] = 200, 200
    frame[::2] //= 2  # stripes, which a blur takes away
    assert cv2.imwrite(str(tmp_path / "street.png"), frame)
    monkeypatch.chdir(tmp_path)

    def recipe(name: str) -> str:
        code = RECIPES[name]
        for printed, meant in MEANT.items():
            code = code.replace(printed, meant)
        exec(compile(code, name, "exec"), {})
        return capsys.readouterr().out

    return recipe


def test_every_recipe_is_found_and_short():
    assert len(RECIPES) >= 5
    assert {name: lines for name, code in RECIPES.items() if (lines := len(code.splitlines())) > 12} == {}


def test_one_picture_is_drawn_and_its_areas_are_all_pixels(run):
    assert "(96, 288) uint8" in run("One picture")
    assert cv2.imread("overlay.png").shape == (96, 288, 3)


def test_the_csv_has_a_row_per_frame_whose_shares_are_those_of_the_pictures(run):
    run("Pixels of a class per frame, to CSV")
    with open("cars.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == list("01234")
    bits = [number.bit_count() for number in range(5)]  # a picture is red where its number has a bit
    assert [round(12 * float(row["share"])) for row in rows] == bits
    assert [int(row["pixels"]) / (32 * 96) for row in rows] == [float(row["share"]) for row in rows]


def test_the_background_is_blurred_and_the_class_is_not(run):
    run("Blurred background")
    before, after = (cv2.imread(name).astype(int) for name in ("street.png", "blurred.png"))
    stripes = np.abs(np.diff(after, axis=0)).max(axis=(0, 2))
    assert np.abs(before - after)[:, 8:80].max() <= 1
    assert stripes[8:80].min() >= 99
    assert stripes[120:].max() < 20


def test_frames_of_a_generator_become_masks_of_their_size(run):
    assert re.findall(r"^(\d) \(480, 640\) [\d.]+ ms$", run("Frames of your own"), re.MULTILINE) == list("01234")


def test_unsure_pixels_are_found_at_the_border_of_two_classes(run):
    cv2.imwrite("street.png", cv2.imread("street.png") // 40)  # logits of the three classes: 5, 0 and 0
    assert re.fullmatch(r"\d+\.\d % of pixels\n", run("Where the network is unsure"))
    white = (cv2.imread("unsure.png") == 255).all(axis=2)
    columns = np.flatnonzero(white.any(axis=0))
    assert len(columns)
    assert set(columns) <= set(range(90, 102))
