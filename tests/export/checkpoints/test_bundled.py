"""The weights that ship: complete records, small files, and the accuracy that they claim, in torch and in ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from calibration.data import label_sets
from export import weights
from export.origins import find, names
from export.request import request
from export.training.samples import load_samples
from export.training.score import score

SETS = [(name, record.classes) for name in names() for record in weights.bundled_sets(find(name).spec)]
OURS = [name for name, classes in SETS if classes == "camvid"]

each = pytest.mark.parametrize(("name", "classes"), SETS)


def record_of(name: str, classes: str) -> dict[str, Any]:
    record = weights.bundled(find(name).spec, classes)
    assert record is not None
    return dict(json.loads((weights.BUNDLED / record.file).with_suffix(".json").read_text(encoding="utf-8")))


def test_all_bundled_weights_together_stay_below_25_mb() -> None:
    assert sum(path.stat().st_size for path in weights.BUNDLED.glob("*.safetensors")) < 25e6


def test_every_bundled_file_belongs_to_a_network() -> None:
    assert {path.name for path in weights.BUNDLED.glob("*.safetensors")} == {record_of(*s)["file"] for s in SETS}


@each
def test_a_record_says_what_the_weights_may_be_used_for(name: str, classes: str) -> None:
    record = record_of(name, classes)
    assert record["network"] == name
    assert "non-commercial" in record["terms"]
    assert {"data", "date", "sha256"} <= record.keys()


@pytest.mark.parametrize("name", OURS)
def test_a_record_of_our_training_says_how_the_weights_came_about(name: str) -> None:
    record = record_of(name, "camvid")
    assert record["scores"]["val"]["iou"].keys() == set(label_sets.CAMVID.names)
    assert len(record["commit"]) == 12  # and no "+changes": the recipe is in the repository as it was used
    assert {"recipe", "epochs_done"} <= record.keys()


@pytest.mark.parametrize(("name", "classes"), [s for s in SETS if s[0] not in OURS])
def test_a_record_of_others_weights_says_whose_they_are_and_ships_their_licence(name: str, classes: str) -> None:
    record = record_of(name, classes)
    assert {"source", "commit", "file"} <= record["start"].keys()
    assert len(record["start"]["sha256"]) == 64
    assert record["published"]["value"] in {figure.value for figure in find(name).spec.published}
    assert "Permission is hereby granted" in (weights.BUNDLED / record["licence"]).read_text(encoding="utf-8")


@each
def test_bundled_weights_load_and_have_the_classes_of_their_set(name: str, classes: str) -> None:
    origin = find(name)
    checkpoint = weights.read(origin, classes)  # checks the hash
    count = weights.class_count(origin, checkpoint)
    assert count is not None
    assert label_sets.label_set(count, origin.spec.classes).name.split()[0] == classes
    record = weights.put(origin.load(count), checkpoint)  # checks shapes
    assert record["trained"] is True
    assert record["terms"]


def test_the_default_of_several_sets_is_the_one_for_the_spec_s_classes() -> None:
    assert [record.classes for record in weights.bundled_sets(find("espnetv2").spec)] == ["voc", "cityscapes"]
    assert weights.read(find("espnetv2"), None).source == "espnetv2-voc"


@pytest.mark.parametrize(("source", "size", "classes"), [(None, (384, 384), 21), ("cityscapes", (512, 1024), 20)])
def test_bundled_weights_bring_the_size_that_they_were_trained_for(
        source: str | None, size: tuple[int, int], classes: int) -> None:
    wanted = request("espnetv2", weights=source)
    assert wanted.spec.preprocess.size == size
    assert len(wanted.spec.classes.names) == classes
    assert request("espnetv2", weights=source, size=(64, 96)).spec.preprocess.size == (64, 96)


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_miou_on_camvid_val_is_the_record_s_in_torch_and_the_same_in_onnx(
        name: str, data: Path, tmp_path: Path) -> None:
    from benchmarks.accuracy import evaluate
    from calibration.data.labels import find_pairs, label_map
    from export.build import build
    from export.request import request
    from export.target import Job
    from runtime import Segmenter

    origin = find(name)
    entry, network = origin.spec, origin.load()
    weights.put(network, weights.read(origin, None))
    in_torch = score(network, entry, load_samples(data / "camvid" / "val", len(entry.classes.names)),
                     torch.device("cpu")).miou
    with Segmenter.open(build("onnx", Job(request(name), tmp_path))) as segmenter:
        in_onnx = evaluate(segmenter, find_pairs(data / "camvid" / "val"),
                           label_map("camvid", segmenter.artifact.classes)).miou
    claimed = weights.bundled(entry)
    assert claimed is not None
    assert in_torch == pytest.approx(claimed.scores["val"].miou, abs=0.0005)
    assert in_onnx == pytest.approx(in_torch, abs=0.0005)
