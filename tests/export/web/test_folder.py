"""The folder: its command, what it refuses, and where its engine comes from."""

from __future__ import annotations

import json
import subprocess

import pytest

from export.web import engine, folder, proof
from export.web.__main__ import main
from runtime.artifact import OutputKind, json_path
from runtime.errors import UserError
from tests import colours


@pytest.fixture
def no_engine(monkeypatch):
    """Building without the 33 MB package: files of the right names."""
    monkeypatch.setattr(engine, "unpack", lambda providers, place: [
        (place / name).write_bytes(b"x") for provider in providers for name in engine.FILES[provider]])


def test_command_puts_the_artifact_and_its_json_into_the_folder_unchanged(tmp_path, no_engine, capsys):
    made = colours.artifact(tmp_path / "made", (32, 48))
    out = tmp_path / "web"
    assert main([str(made), "--out", str(out), "--json", str(tmp_path / "record.json")]) == 0
    for file in (made, json_path(made)):
        assert (out / file.name).read_bytes() == file.read_bytes()
    page = json.loads((out / "page.json").read_text(encoding="utf-8"))
    assert set(page["runtime"]) == {"version", "folder", "wasm", "webgpu"}
    assert f"{made.name}?sha256={json.loads(json_path(made).read_text())['sha256'][:12]}" in page["offline"]
    assert json.loads((tmp_path / "record.json").read_text())["artifact"] == str(out / made.name)
    assert "--serve" in capsys.readouterr().out


def test_folder_without_webgpu_is_made_again_over_the_old_one_and_says_so(tmp_path, no_engine):
    made = colours.artifact(tmp_path / "made", (32, 48))
    folder.build(made, tmp_path / "web")
    folder.build(made, tmp_path / "web", webgpu=False)
    page = json.loads((tmp_path / "web" / "page.json").read_text(encoding="utf-8"))
    assert "webgpu" not in page["runtime"]
    assert not list((tmp_path / "web").rglob("*asyncify*"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nobody_elses_folder_is_replaced(tmp_path, no_engine, capsys):
    made = colours.artifact(tmp_path / "made", (32, 48))
    assert main([str(made), "--out", str(made.parent)]) == 2
    assert "was not written by python -m export.web" in capsys.readouterr().err
    assert made.exists()


@pytest.mark.parametrize("output", [OutputKind.CLASSES])
def test_class_maps_are_refused(tmp_path, no_engine, output, capsys):
    assert main([str(colours.artifact(tmp_path / "made", output=output)), "--out", str(tmp_path / "web")]) == 2
    assert "exact mask itself" in capsys.readouterr().err


def test_proof_can_fail(tmp_path, no_engine):
    made = colours.artifact(tmp_path / "made", (32, 48))
    page = json.loads((folder.build(made, tmp_path / "web") / "page.json").read_text(encoding="utf-8"))
    assert page["proof"]["alone"] < page["proof"]["gate"] == proof.GATES["fp32"]


def test_a_package_with_another_hash_is_refused_and_named(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "cache_folder", lambda: tmp_path)
    path = tmp_path / f"onnxruntime-web-{engine.VERSION}.tgz"
    path.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"has SHA-512 .* Try: remove "):
        engine.unpack(("wasm",), tmp_path)


@pytest.mark.parametrize(("error", "said"), [
    (FileNotFoundError("npm"), "npm, which fetches it, is not installed"),
    (subprocess.CalledProcessError(1, "npm", stderr="npm error network unreachable\nmore"), "network unreachable"),
    (subprocess.TimeoutExpired("npm", 600), "timed out")])
def test_without_npm_or_its_registry_one_line_says_what_to_do(tmp_path, monkeypatch, error, said):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(engine, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(engine.subprocess, "run", fails)
    with pytest.raises(UserError, match=said) as raised:
        engine.unpack(("wasm",), tmp_path)
    assert f"npm pack onnxruntime-web@{engine.VERSION}" in str(raised.value)
    assert list(tmp_path.iterdir()) == []
