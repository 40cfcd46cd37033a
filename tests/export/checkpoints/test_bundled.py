"""The weights that ship: complete records, small files, and the accuracy that they claim, in torch and in ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from export import spec, weights
from export.origins import find, names
from export.training.samples import load_samples
from export.training.score import score

NAMES = [name for name in names() if weights.bundled(find(name).spec)]


def test_all_bundled_weights_together_stay_below_25_mb() -> None:
    assert sum(path.stat().st_size for path in weights.BUNDLED.glob("*.safetensors")) < 25e6


def test_every_bundled_file_belongs_to_a_network() -> None:
    assert {path.stem for path in weights.BUNDLED.glob("*.safetensors")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_says_how_the_weights_came_about_and_what_they_may_be_used_for(name: str) -> None:
    record = json.loads((weights.BUNDLED / f"{name}.json").read_text(encoding="utf-8"))
    assert record["network"] == name
    assert "non-commercial" in record["terms"]
    assert record["scores"]["val"]["iou"].keys() == set(spec.CAMVID.names)
    assert len(record["commit"]) == 12  # and no "+changes": the recipe is in the repository as it was used
    assert {"recipe", "data", "date", "epochs_done"} <= record.keys()


@pytest.mark.parametrize("name", NAMES)
def test_bundled_weights_load_and_belong_to_the_spec_s_classes(name: str) -> None:
    origin = find(name)
    checkpoint = weights.read(origin, None)  # checks the hash
    assert weights.class_count(origin, checkpoint) == len(origin.spec.classes.names)
    record = weights.put(origin.load(), checkpoint)  # checks shapes
    assert record["trained"] is True
    assert record["terms"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
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
