"""The artifact's JSON: written and read back whole, and refused when anything about it is off."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal

import pytest

from runtime import artifact as contract
from runtime.artifact import (
    Check,
    OutputKind,
    engine_sha256,
    from_json,
    json_path,
    open_artifact,
    to_json,
    write_artifact,
)
from runtime.errors import Stopped, UserError
from runtime.signals import stoppable


@pytest.fixture
def copy(artifact, tmp_path):
    """An artifact of one's own to spoil."""
    for path in (artifact, json_path(artifact)):
        shutil.copy(path, tmp_path)
    return tmp_path / artifact.name


def test_an_artifact_comes_back_as_it_was_written(copy):
    described, _ = open_artifact(copy)
    full = dataclasses.replace(described, verification=(Check("a vs b", 1e-3, None, None, 0.5, "x.jpg", 0.4, 3, 0.1),),
                               calibration={"frames": 31}, details={"compute": [87]})
    assert from_json(to_json(full)) == full


def test_the_engine_and_its_json_open_the_same_artifact(copy):
    assert open_artifact(copy) == open_artifact(json_path(copy)) == open_artifact(str(copy))
    described, engine = open_artifact(copy)
    assert engine == copy
    assert described.output_kind is OutputKind.LOW


def test_writing_leaves_no_temporary_file(copy):
    before = sorted(p.name for p in copy.parent.iterdir())
    write_artifact(open_artifact(copy)[0], copy)
    assert sorted(p.name for p in copy.parent.iterdir()) == before


def test_a_changed_engine_is_refused_with_both_hashes(copy):
    stated = open_artifact(copy)[0].sha256
    copy.write_bytes(copy.read_bytes() + b"x")
    with pytest.raises(UserError, match=stated[:12]) as caught:
        open_artifact(copy)
    assert engine_sha256(copy)[:12] in str(caught.value)


@pytest.mark.parametrize(("missing", "message"), [
    ("json", r"\.json is missing beside"), ("engine", "which is not in"), ("both", "does not exist")])
def test_a_missing_half_is_named(copy, missing, message):
    if missing != "engine":
        json_path(copy).unlink()
    if missing != "json":
        copy.unlink()
    with pytest.raises(UserError, match=message):
        open_artifact(json_path(copy) if missing == "engine" else copy)


def spoil(**changes):
    def change(values):
        for key, value in changes.items():
            if value is None:
                del values[key]
            else:
                values[key] = value
        return json.dumps(values)
    return change


@pytest.mark.parametrize(("change", "message"), [
    (lambda values: "{", "is not an edgeseg artifact"),
    (lambda values: "[]", "is not an edgeseg artifact"),
    (lambda values: "null", "is not an edgeseg artifact"),
    (spoil(format=3), "has format 3"),
    (spoil(format=None), "'format'"),
    (spoil(surprise=1), "surprise"),
    (spoil(classes=None), "classes"),
    (spoil(palette=[[1, 2]]), "is not an edgeseg artifact"),
    (spoil(output_kind="soft"), "soft"),
    (spoil(preprocess={"size": [1, 2]}), "'preprocess.mean' is missing"),
    (spoil(file="../engine.onnx"), r"file is '\.\./engine\.onnx'"),
    (spoil(file=".."), r"file is '\.\.'"),
])
def test_a_json_that_is_not_ours_is_refused_in_one_line(copy, change, message):
    path = json_path(copy)
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(UserError, match=message) as caught:
        open_artifact(copy)
    assert "\n" not in str(caught.value)


def test_a_json_that_is_not_text_is_refused(copy):
    json_path(copy).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        open_artifact(copy)


def test_a_folders_hash_depends_on_names_and_contents(tmp_path):
    def folder(name, files):
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(content)
        return engine_sha256(tmp_path / name)

    whole = folder("a", {"x": "1", "sub/y": "2"})
    assert whole == folder("b", {"sub/y": "2", "x": "1"})
    assert whole != folder("c", {"x": "1", "sub/z": "2"})
    assert whole != folder("d", {"x": "1", "sub/y": "3"})


def test_a_signal_between_the_engine_and_its_json_leaves_both(artifact, tmp_path, monkeypatch):
    described, engine = open_artifact(artifact)
    path, write = tmp_path / "late.onnx", contract.write_artifact

    def struck(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return write(*arguments)

    monkeypatch.setattr(contract, "write_artifact", struck)
    with pytest.raises(Stopped), stoppable():
        contract.publish(described, path, lambda temporary: temporary.write_bytes(engine.read_bytes()))
    assert open_artifact(path)[0].file == "late.onnx"
