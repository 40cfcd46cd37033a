"""Labels are read as class indices, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.data import label_sets
from calibration.data.labels import find_pairs, label_map, read_pairs
from runtime.errors import UserError

CAMVID = label_sets.CAMVID.names


def put(folder: Path, label: np.ndarray, name: str = "a", label_name: str = "") -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), np.full((4, 6, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "labels" / f"{label_name or name}.png"), label)
    return folder


def read(folder: Path, labels: str = "own", classes: tuple[str, ...] = CAMVID, ignore: int = 255) -> np.ndarray:
    return next(read_pairs(find_pairs(folder), label_map(labels, classes, ignore)))[2]


def test_indices_stay_and_255_is_ignored(tmp_path: Path) -> None:
    label = np.array([[0, 1, 2, 3, 4, 5]] * 3 + [[10, 9, 8, 255, 255, 7]], np.uint8)
    assert read(put(tmp_path, label)).tolist() == label.tolist()


def test_any_value_can_be_the_ignored_one(tmp_path: Path) -> None:
    found = read(put(tmp_path, np.full((4, 6), 99, np.uint8)), ignore=99)
    assert (found == 255).all()


def test_another_label_set_is_joined_by_name_and_its_other_classes_do_not_count(tmp_path: Path) -> None:
    label = np.array([[0, 1, 8, 10, 11, 12]] * 4, np.uint8)  # road, sidewalk, vegetation, sky, person, rider
    assert read(put(tmp_path, label), "cityscapes")[0].tolist() == [
        CAMVID.index(name) for name in ("road", "pavement", "tree", "sky", "pedestrian", "bicyclist")]
    mapping = label_map("cityscapes", CAMVID)
    assert "train" in mapping.unused
    assert mapping.table[16] == 255


def test_a_file_can_say_what_values_mean(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"7": "road"}))
    assert (read(put(tmp_path, np.full((4, 6), 7, np.uint8)), str(tmp_path / "map.json")) == 3).all()


def test_voc_s_palette_pngs_are_read_as_indices(tmp_path: Path) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[:, 0], colours[:, 1], colours[:, 2] = (128, 128, 192)[::-1], (0, 64, 128)[::-1], (224, 224, 192)[::-1]
    # 15 person is (192, 128, 128), 20 tv monitor (0, 64, 128), void (224, 224, 192)
    colours[:, 0] = (128, 128, 192)
    assert read(put(tmp_path, colours), "voc", label_sets.VOC.names)[0, :4].tolist() == [15, 20, 255, 0]


def test_cityscapes_file_names_pair(tmp_path: Path) -> None:
    put(tmp_path, np.zeros((4, 6), np.uint8), "bonn_0_leftImg8bit", "bonn_0_gtFine_labelTrainIds")
    assert [p.name for p in find_pairs(tmp_path)] == ["bonn_0"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda d: put(d, np.full((4, 6), 11, np.uint8)), r"a\.png has the label value 11, which is no class"),
    (lambda d: put(d, np.zeros((5, 6), np.uint8)), r"a\.png is 6x5, its image 6x4; expected the same size"),
    (lambda d: put(d, np.full((4, 6, 3), 77, np.uint8)), r"a\.png is a colour image \(R, G, B = 77, 77, 77\)"),
    (lambda d: put(d, np.zeros((4, 6), np.uint16)), r"a\.png holds uint16; expected one 8-bit class index"),
    (lambda d: put(d, np.zeros((4, 6), np.uint8), "a", "b"), r"images/a\.png has no label of the same name"),
    (lambda d: (put(d, np.zeros((4, 6), np.uint8)) / "labels" / "a.png").write_bytes(b"x"), r"a\.png cannot be read"),
    (lambda d: (put(d, np.zeros((4, 6), np.uint8)) / "images" / "a.png").unlink(), r"images has no \.jpg"),
    (lambda d: put(d, np.zeros((4, 6), np.uint8)).rename(d / ".." / "gone"), "has no folder images"),
])
def test_what_cannot_be_used_is_told_with_the_offending_file(
        tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    with pytest.raises(UserError, match=message):
        read(folder)


def test_a_data_set_s_own_folder_leads_to_its_split(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    put(tmp_path / "val", np.zeros((4, 6), np.uint8))
    with pytest.raises(UserError, match=r"Try: --data .*val"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(("name", "message"), [
    ("ade20k", "neither a file nor known; known: own, camvid, cityscapes, voc"), ("voc", "shares no class with")])
def test_a_label_set_that_does_not_fit_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        label_map(name, ("road", "sky"))


@pytest.mark.parametrize("text", ["[]", "{", '{"x": "road"}', '{"300": "road"}'])
def test_a_broken_label_map_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError, match=r"map\.json"):
        label_map(str(tmp_path / "map.json"), CAMVID)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"0": 1}', '{"a": "road"}', '{"0": "road", "0": "sky"}', "[]"])
def test_a_damaged_label_map_is_the_users_mistake_and_no_traceback(tmp_path, content):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(UserError, match=r"is not a label map .*expected JSON such as"):
        label_map(str(tmp_path / "map.json"), ("road", "sky"))
