"""Training learns, survives a kill, and leaves weights that load."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from export import spec, weights
from export.origins import find
from export.training import record, train
from export.training.recipe import Recipe
from export.training.samples import Sample
from export.training.score import score
from export.training.trainer import Trainer
from runtime.errors import UserError
from tests import tiny

RECIPE = Recipe(epochs=3, batch=2, crop=(32, 48))


def silent(_: str) -> None:
    pass


def frames(count: int = 5) -> list[Sample]:
    """Red on the left is class 0, blue on the right class 1; the border moves."""
    made = []
    for index in range(count):
        label = np.zeros((32, 48), np.uint8)
        label[:, 16 + 4 * index:] = 1
        made.append(Sample(f"f{index}", np.where(label[..., None] == 1, (20, 30, 220), (220, 40, 20)).astype(np.uint8),
                           label))
    return made


def trainer(recipe: Recipe = RECIPE) -> Trainer:
    return Trainer(tiny.SPEC, tiny.network(), frames(), recipe, torch.device("cpu"), compiled=False)


def test_a_run_resumed_after_a_kill_ends_with_the_same_weights_and_log(tmp_path: Path) -> None:
    unbroken, killed, resumed = trainer(), trainer(), trainer()
    for _ in range(3):
        unbroken.run_epoch(silent)
    killed.run_epoch(silent)
    killed.save(tmp_path / "state.pt")
    resumed.resume(tmp_path / "state.pt")
    assert resumed.epoch == 1
    for _ in range(2):
        resumed.run_epoch(silent)
    for ours, theirs in ((resumed.network, unbroken.network), (resumed.average, unbroken.average)):
        expected = theirs.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.state_dict().items())
    assert [line["loss"] for line in resumed.log] == [line["loss"] for line in unbroken.log]


def test_training_learns_what_is_easy() -> None:
    taught = trainer(dataclasses.replace(RECIPE, epochs=12, rate=2e-2, average=0.5))
    before = score(taught.average, tiny.SPEC, frames(), taught.device).miou
    for _ in range(12):
        taught.run_epoch(silent)
    after = score(taught.average, tiny.SPEC, frames(), taught.device)
    assert before < 0.5
    assert after.miou > 0.9
    assert taught.log[-1]["loss"] < taught.log[0]["loss"]


def test_a_teacher_is_followed_where_it_contradicts_the_labels() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=12, rate=2e-2, average=0.5)
    teacher = trainer(recipe)
    for _ in range(12):
        teacher.run_epoch(silent)
    turned = [dataclasses.replace(s, label=1 - s.label) for s in frames()]
    scores = {}
    for distill in (0.0, 20.0):
        taught = Trainer(tiny.SPEC, tiny.network(), turned, dataclasses.replace(recipe, distill=distill),
                         torch.device("cpu"), compiled=False, teacher=copy.deepcopy(teacher.average))
        for _ in range(12):
            taught.run_epoch(silent)
        scores[distill] = score(taught.average, tiny.SPEC, frames(), taught.device).miou
    assert scores[0.0] < 0.1
    assert scores[20.0] > 0.9


def test_a_state_of_another_recipe_is_refused(tmp_path: Path) -> None:
    trainer().save(tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"'rate': 0\.5.*the options of the first run"):
        trainer(dataclasses.replace(RECIPE, rate=0.5)).resume(tmp_path / "state.pt")


def test_a_schedule_can_be_shortened_on_the_way_and_that_is_kept_on_record(tmp_path: Path) -> None:
    long, short = trainer(dataclasses.replace(RECIPE, epochs=9)), trainer(dataclasses.replace(RECIPE, epochs=2))
    long.run_epoch(silent)
    long.save(tmp_path / "state.pt")
    short.resume(tmp_path / "state.pt")
    short.run_epoch(silent)
    assert short.log[-1]["rate"] == pytest.approx(0, abs=1e-9)
    assert short.changes == [{"after_epoch": 1, "from_epochs": 9, "to_epochs": 2}]


def test_nothing_to_resume_is_told() -> None:
    with pytest.raises(UserError, match="nothing to resume"):
        trainer().resume(Path("nowhere.pt"))


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    recipe = Recipe(rate=1.0, warmup=0.1)
    rates = [recipe.rate_at(step / 100) for step in range(101)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(1)
    assert rates[0] < 0.01
    assert rates[100] == pytest.approx(0)


def write(folder: Path, made: list[Sample]) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for sample in made:
        cv2.imwrite(str(folder / "images" / f"{sample.stem}.png"), np.ascontiguousarray(sample.image[..., ::-1]))
        cv2.imwrite(str(folder / "labels" / f"{sample.stem}.png"), sample.label)


def test_the_command_leaves_weights_that_load_a_record_a_log_and_a_curve(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data" / "train", frames())
    write(tmp_path / "data" / "val", frames(1))
    out = tmp_path / "out"
    arguments = ["lraspp-small", "--data", str(tmp_path / "data"), "--out", str(out), "--no-compile", "--epochs", "1",
                 "--batch", "2", "--crop", "32x48", "--hold-out", "f4", "--terms", "ours", "--device", "cpu"]
    assert train.main(arguments) == 0
    assert sorted(p.name for p in out.iterdir()) == [f"lraspp-small.{kind}" for kind in (
        "json", "jsonl", "png", "safetensors", "state.pt")]
    record = json.loads((out / "lraspp-small.json").read_text())
    assert record["recipe"]["crop"] == [32, 48]
    assert record["data"]["training_frames"] == 4
    assert record["scores"].keys() == {"val", "held out"}
    assert record["scores"]["val"]["iou"].keys() == set(spec.CAMVID.names)
    monkeypatch.setattr(weights, "BUNDLED", out)
    origin = find("lraspp-small")
    network = origin.load()
    assert weights.put(network, weights.read(origin, None)) == {
        "source": "lraspp-small-camvid", "sha256": record["sha256"], "trained": True, "terms": "ours"}
    val = [Sample(s.stem, s.image, s.label) for s in frames(1)]
    assert score(network, origin.spec, val, torch.device("cpu")).miou == pytest.approx(
        record["scores"]["val"]["miou"], abs=1e-5)
    assert "val mIoU" in capsys.readouterr().out


def test_the_record_of_a_second_run_holds_how_the_first_one_went(tmp_path: Path) -> None:
    write(tmp_path / "train", frames())
    write(tmp_path / "val", frames(1))
    first, second = (["lraspp-small", "--data", str(tmp_path), "--out", str(tmp_path / out), "--no-compile",
                      "--epochs", epochs, "--batch", "2", "--crop", "32x48"]
                     for out, epochs in (("1", "2"), ("2", "1")))
    weights_file = tmp_path / "1" / "lraspp-small.safetensors"
    assert train.main(first) == train.main([*second, "--weights", str(weights_file)]) == 0
    start = json.loads((tmp_path / "2" / "lraspp-small.json").read_text())["start"]
    assert (start["source"], start["epochs_done"]) == ("lraspp-small.safetensors", 2)
    assert start["recipe"]["weights"] == start["start"]["source"] == "none"
    assert record.history(find("lraspp-small").spec, str(weights_file), "of others") == {}
    for foreign in ("[1, 2]", "not JSON", "\xff", "[" * 100_000, json.dumps({"sha256": start["sha256"]})):
        weights_file.with_suffix(".json").write_text(foreign, encoding="latin-1")
        assert record.history(find("lraspp-small").spec, str(weights_file), start["sha256"]) == {}


def test_what_is_beyond_float16_is_kept_in_float32_and_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    network = tiny.network()
    network.stem[1].running_var[0] = 1e8
    expected = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    written = record.bundle(tmp_path, tiny.SPEC, network, {}, {}, torch.device("cpu"))
    found = load_file(tmp_path / written["file"])
    assert written["float32"] == ["stem.1.running_var"]
    assert torch.equal(found["stem.1.running_var"], expected["stem.1.running_var"])
    assert found["stem.0.weight"].dtype == torch.float16


@pytest.mark.parametrize(("change", "message"), [
    (["--hold-out", "0016E5"], "no training frame's name starts with '0016E5'"),
    (["--batch", "6"], "5 training frames are fewer than one batch of 6"),
    (["--resume", "--batch", "2"], "nothing to resume"),
])
def test_what_cannot_be_trained_is_told_in_one_line(
        tmp_path: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train", frames())
    write(tmp_path / "val", frames(1))
    arguments = ["lraspp-small", "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--no-compile"]
    assert train.main(arguments + change) == 2
    assert message in capsys.readouterr().err
