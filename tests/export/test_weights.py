"""Weights load by name or path, and what does not fit is reported in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from export import checkpoint, weights
from export.origins import Origin, find
from export.request import request
from runtime.errors import UserError

SMALL = find("lraspp-small")


class Tiny(nn.Module):
    """Two layers; the second depends on the class count."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1)
        self.last = nn.Conv2d(2, classes, 1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the bundled checkpoints, and a cache of its own."""
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def bundle(folder: Path, network: nn.Module) -> None:
    file = folder / "lraspp-small.safetensors"
    save_file({key: t.half() if t.is_floating_point() else t for key, t in network.state_dict().items()}, file)
    (folder / "lraspp-small.json").write_text(json.dumps({
        "network": "lraspp-small", "file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "classes": "camvid", "terms": "research only"}))


@pytest.mark.parametrize("source", [None, "camvid"])
def test_bundled_weights_are_the_default_and_load_in_float32(folder: Path, source: str | None) -> None:
    trained, network = Tiny(), Tiny()
    bundle(folder, trained)
    record = weights.put(network, weights.read(SMALL, source))
    assert network.last.weight.dtype == torch.float32
    assert torch.equal(network.last.weight, trained.last.weight.half().float())
    assert record["trained"] is True
    assert record["terms"] == "research only"
    assert record["sha256"] == hashlib.sha256((folder / "lraspp-small.safetensors").read_bytes()).hexdigest()


def test_the_terms_are_told_where_a_user_sees_them(folder: Path) -> None:
    bundle(folder, Tiny())
    def line(source: str | None) -> str:
        return weights.summary(weights.put(Tiny(), weights.read(SMALL, source)))

    assert line(None) == "weights lraspp-small-camvid (research only)"
    assert line("none") == "random weights, UNTRAINED"


def test_a_changed_bundle_is_refused(folder: Path) -> None:
    bundle(folder, Tiny())
    save_file(Tiny().state_dict(), folder / "lraspp-small.safetensors")
    with pytest.raises(UserError, match=r"SHA-256 .* expected"):
        weights.read(SMALL, None)


def test_without_a_bundle_the_default_is_an_error_that_names_the_choices(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no bundled weights; known: torchvision, none \(random\), a path"):
        weights.read(find("lraspp"), None)


def test_none_leaves_the_random_weights_and_says_untrained(folder: Path) -> None:
    network = Tiny()
    before = network.first.weight.clone()
    assert weights.put(network, weights.read(SMALL, "none"))["trained"] is False
    assert torch.equal(network.first.weight, before)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_path_loads(folder: Path, suffix: str) -> None:
    trained, network, path = Tiny(), Tiny(), folder / f"mine{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(trained.state_dict(), path)
    assert weights.put(network, weights.read(SMALL, str(path)))["source"] == f"mine{suffix}"
    assert torch.equal(network.last.bias, trained.last.bias)


def test_a_training_state_s_own_weights_are_found(folder: Path) -> None:
    trained, network = Tiny(), Tiny()
    torch.save({"state_dict": trained.state_dict(), "epoch": 3}, folder / "mine.pth")
    weights.put(network, weights.read(SMALL, str(folder / "mine.pth")))
    assert torch.equal(network.last.bias, trained.last.bias)


def save(folder: Path, tensors: dict[str, torch.Tensor]) -> str:
    torch.save(tensors, folder / "mine.pth")
    return str(folder / "mine.pth")


def test_missing_unexpected_and_misshaped_keys_are_counted_and_the_first_few_listed(folder: Path) -> None:
    tensors = Tiny().state_dict()
    tensors["first.weight"] = torch.zeros(2, 4, 1, 1)
    del tensors["last.bias"]
    tensors |= {f"extra{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(UserError, match=r"1 missing: last\.bias; 5 unexpected: extra0, extra1, extra2, …; 1 of another "
                                        r"shape: first\.weight \(2, 4, 1, 1\) instead of \(2, 3, 1, 1\)"):
        weights.put(Tiny(), weights.read(SMALL, save(folder, tensors)))


def test_another_class_count_is_told_as_such(folder: Path) -> None:
    with pytest.raises(UserError, match=r"are for 21 classes, the network has 3\. Try: --classes 21"):
        weights.put(Tiny(3), weights.read(SMALL, save(folder, Tiny(21).state_dict())))


def test_the_class_count_is_read_off_the_weights(folder: Path) -> None:
    path = save(folder, SMALL.load(7).state_dict())
    assert weights.class_count(SMALL, weights.read(SMALL, path)) == 7
    assert weights.class_count(SMALL, weights.read(SMALL, "none")) is None


def test_the_class_count_of_another_network_s_weights_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError, match="another network"):
        weights.class_count(SMALL, weights.read(SMALL, save(folder, Tiny().state_dict())))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_damaged_file_is_one_clear_line(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"mine{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint") as caught:
        weights.put(Tiny(), weights.read(SMALL, str(path)))
    assert "\n" not in str(caught.value)


def test_a_pickle_with_code_in_it_is_not_run_and_nobody_advises_to(folder: Path) -> None:
    torch.save({"weight": Path("/")}, folder / "mine.pth")
    with pytest.raises(UserError, match=r"holds pathlib\.\w+, and reading that would run code") as caught:
        weights.read(SMALL, str(folder / "mine.pth"))
    assert not {"weights_only", "trust", "add_safe_globals"} & set(str(caught.value).replace("=", " ").split())


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "_orig_mod.", "module._orig_mod.model."])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "ema"])
def test_what_surrounds_the_weights_is_taken_off_and_said(folder: Path, prefix: str, wrapper: str) -> None:
    trained, network = Tiny(), Tiny()
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, folder / "mine.pth")
    record = weights.put(network, weights.read(SMALL, str(folder / "mine.pth")))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trained.parameters()))
    assert record["source"] == f"mine.pth{f'[{wrapper!r}]' if wrapper else ''} without the prefix {prefix!r}"


def test_a_loss_s_own_weights_beside_the_network_s_are_no_part_of_it(folder: Path) -> None:
    state = {f"model.{key}": value for key, value in SMALL.load().state_dict().items()} | {"loss.w": torch.ones(3)}
    with pytest.raises(UserError, match=r"do not fit the network: 1 unexpected: loss\.w"):
        weights.put(SMALL.load(), weights.read(SMALL, save(folder, state)))


def test_missing_batch_counters_are_added_where_the_statistics_are_there(folder: Path) -> None:
    state = {key: value for key, value in SMALL.load().state_dict().items() if "num_batches" not in key}
    read = weights.read(SMALL, save(folder, state))
    assert set(read.tensors) == set(SMALL.load().state_dict()) > set(state)
    weights.put(SMALL.load(), read)


def sharded(folder: Path) -> Path:
    """A folder as `save_pretrained` writes one: two shards and their index."""
    (folder / "saved").mkdir()
    state, names = Tiny().state_dict(), ("first", "last")
    for name in names:
        save_file({k: v for k, v in state.items() if k.startswith(name)}, folder / "saved" / f"{name}.safetensors")
    (folder / "saved" / "model.safetensors.index.json").write_text(json.dumps(
        {"weight_map": {key: f"{key.split('.')[0]}.safetensors" for key in state}}))
    return folder / "saved"


def test_a_folder_of_shards_is_one_checkpoint(folder: Path) -> None:
    network, path = Tiny(), sharded(folder)
    first = weights.put(network, weights.read(SMALL, str(path)))
    save_file({k: v for k, v in Tiny().state_dict().items() if k.startswith("last")}, path / "last.safetensors")
    second = weights.put(network, weights.read(SMALL, str(path)))
    assert first["source"] == second["source"] == "saved"
    assert first["sha256"] != second["sha256"]


@pytest.mark.parametrize("name", ["gone.safetensors", "../first.safetensors"])
def test_a_shard_that_is_not_beside_its_index_is_named(folder: Path, name: str) -> None:
    path = sharded(folder)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"first.weight": name}}))
    with pytest.raises(UserError, match=f"names {name}, which .*saved does not hold"):
        weights.read(SMALL, str(path))


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = Tiny().state_dict()
    tensors["last.bias"][0] = float("nan")
    with pytest.raises(UserError, match=r"not finite in last\.bias"):
        weights.put(Tiny(), weights.read(SMALL, save(folder, tensors)))


def test_an_unknown_name_is_an_error_that_names_the_choices(folder: Path) -> None:
    with pytest.raises(UserError, match="imagenet is neither a file nor known for lraspp-small; known: none"):
        weights.read(SMALL, "imagenet")


def published(folder: Path, digest: str) -> Origin:
    """A network whose published checkpoint lies in `folder`, reached through a file address: no network."""
    return dataclasses.replace(SMALL, spec=dataclasses.replace(
        SMALL.spec, weights={"tiny": ((folder / "tiny.pth").as_uri(), digest)}))


def test_a_published_checkpoint_is_fetched_once_and_checked_against_the_known_digits(folder: Path) -> None:
    trained, network = Tiny(), Tiny()
    torch.save(trained.state_dict(), folder / "tiny.pth")
    digest = hashlib.sha256((folder / "tiny.pth").read_bytes()).hexdigest()
    entry = published(folder, digest[:8])
    record = weights.put(network, weights.read(entry, "tiny"))
    assert record["sha256"] == digest
    (folder / "tiny.pth").unlink()  # the second time it comes from the cache
    weights.put(network, weights.read(entry, "tiny"))
    assert torch.equal(network.last.bias, trained.last.bias)


def test_a_published_checkpoint_with_another_hash_is_refused_and_not_kept(folder: Path) -> None:
    torch.save(Tiny().state_dict(), folder / "tiny.pth")
    with pytest.raises(UserError, match=r"SHA-256 .* expected 00000000"):
        weights.read(published(folder, "00000000"), "tiny")
    assert list((folder / "cache" / "edgeseg").iterdir()) == []


def test_a_checkpoint_that_cannot_be_fetched_says_where_to_put_it(folder: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be fetched .* put it at .*tiny\.pth"):
        weights.read(published(folder, "00000000"), "tiny")


def test_an_export_reads_and_hashes_its_checkpoint_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = save(folder, SMALL.load(7).state_dict()), []
    loaded = checkpoint._loaded
    monkeypatch.setattr(checkpoint, "_loaded", lambda path: read.append(path) or loaded(path))
    assert len(request("lraspp-small", weights=path, size=(32, 32)).spec.classes.names) == 7
    assert read == [Path(path)]
