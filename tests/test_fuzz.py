"""Files with random damage: refused in one line, or read as what they were; never a traceback, never another mask.

A few seconds here. `EDGESEG_FUZZ=20000 python -m pytest tests/test_fuzz.py` tries as many of each kind.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks import measurement
from export import weights
from export.origins import find, toml
from export.record import read_record
from runtime import tune
from runtime.artifact import OutputKind, json_path, open_artifact
from runtime.errors import UserError
from runtime.overlay import Painter
from runtime.segmenter import Segmenter
from runtime.sessions import open_session
from tests import colours
from tests.benchmarks.rows import latency

fuzzed = settings(max_examples=int(os.environ.get("EDGESEG_FUZZ", "60")), deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from([1e308, 2**63, 2**64, 10**30, "", "x" * 5000, "\n", "\x00", "../x", "\u202e", "low",
                     "NCHW", "bgr"]))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner,
                                                                                          max_size=3), max_leaves=6)


def places(values: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from places(values[key])


@st.composite
def damaged(draw: Callable[..., Any], values: Any) -> Any:
    """A copy with one or two places changed, lost, added or exchanged."""
    values = copy.deepcopy(values)
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(values))
        if not found:
            return values
        container, key = draw(st.sampled_from(found))
        how = draw(st.sampled_from(["change", "change", "nudge", "lose", "add", "exchange"]))
        if how == "lose":
            del container[key]
        elif how == "add" and isinstance(container, dict):
            container[draw(st.text(max_size=6))] = draw(VALUES)
        elif how == "exchange":
            other, at = draw(st.sampled_from(found))
            container[key] = copy.deepcopy(other[at])
        elif how == "nudge" and type(container[key]) in (int, float, bool):
            container[key] += draw(st.sampled_from([-1, 1, 0.5]))
        else:
            container[key] = draw(VALUES)
    return values


@st.composite
def torn(draw: Callable[..., Any], data: bytes) -> bytes:
    """Bytes with a piece overwritten, cut out, doubled, or all after it lost."""
    start = draw(st.integers(0, len(data) - 1))
    end = min(len(data), start + draw(st.integers(0, 40)))
    piece = draw(st.one_of(st.binary(max_size=9), st.just(b""), st.just(data[start:end] * 2),
                           st.sampled_from([b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe", b"NaN", b"-1", b"1e999"])))
    return data[:start] + piece + (data[end:] if draw(st.booleans()) or draw(st.booleans()) else b"")


def damaged_text(values: Any) -> st.SearchStrategy[bytes]:
    """JSON of `values`, damaged as values or as bytes."""
    return st.one_of(damaged(values).map(lambda v: json.dumps(v).encode()), torn(json.dumps(values, indent=2).encode()))


def refused(error: UserError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


@pytest.fixture(scope="module", params=list(OutputKind))
def segmented(request, tmp_path_factory):
    """An artifact of one's own, a frame of another size than its, and the mask of that."""
    path = colours.artifact(tmp_path_factory.mktemp("fuzz"), output=request.param)
    frame = np.random.default_rng(0).integers(0, 256, (24, 50, 3), np.uint8)
    with Segmenter.open(path) as segmenter:
        return path, json.loads(json_path(path).read_text("utf-8")), frame, segmenter(frame).mask


@fuzzed
@given(data=st.data())
def test_a_damaged_artifact_is_refused_or_gives_the_same_mask(segmented, data):
    path, values, frame, expected = segmented
    json_path(path).write_bytes(data.draw(damaged_text(values)))
    try:
        artifact, engine = open_artifact(path)
        segmenter = Segmenter(artifact, open_session(artifact, engine))
    except UserError as error:
        refused(error)
        return
    mask = segmenter(frame).mask
    Painter(artifact.classes, artifact.palette)
    if (artifact.align_corners, artifact.preprocess.interpolation) == (False, "linear"):
        np.testing.assert_array_equal(mask, expected)  # their other values are another artifact; see docs/artifact.md


@fuzzed
@given(data=st.data())
def test_damaged_rows_are_refused_or_left_out_or_read_as_they_stand(tmp_path_factory, data):
    good = json.loads(measurement.to_line(latency("lraspp", "int8")))
    path = tmp_path_factory.getbasetemp() / "fuzz-rows.jsonl"
    path.write_bytes(data.draw(damaged_text(good)).replace(b"\n", b" ") + b"\n")
    try:
        rows = measurement.read(path)
    except UserError as error:
        refused(error)
        return
    for entry in rows:
        assert entry.label
        said = json.loads(path.read_text("utf-8"))
        assert said["format"] == 1 or json.loads(measurement.to_line(entry)) == said


def toml_of(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_of(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return "1979-05-27" if value is None else json.dumps(value)


@fuzzed
@given(data=st.data())
def test_a_damaged_toml_is_refused_or_read_as_it_stands(tmp_path_factory, data):
    good = {"size": [64, 96], "classes": ["a", "b", "c"], "palette": [[1, 2, 3]] * 3, "mean": [0, 0.5, 0.4],
            "std": [1, 0.2, 0.2], "colour_order": "bgr", "stride": 4, "align_corners": True, "multiple": 8,
            "name": "mine", "options": {"width": 3}}
    values = data.draw(damaged(good))
    path = tmp_path_factory.getbasetemp() / "fuzz.toml"
    lines = [f"{json.dumps(key)} = {toml_of(value)}\n" for key, value in values.items()]
    text = "".join(lines).encode("utf-8", "replace")
    path.write_bytes(data.draw(torn(text)) if data.draw(st.booleans()) and text else text)
    try:
        entry = toml.spec("module:function", path)
    except UserError as error:
        refused(error)
        return
    said = toml.tomllib.loads(path.read_text("utf-8"))
    assert list(entry.preprocess.size) == said["size"]
    assert entry.stride == said.get("stride", 1)
    assert entry.align_corners is said.get("align_corners", False)
    assert list(entry.preprocess.mean) == said.get("mean", [0.485, 0.456, 0.406])
    assert len(entry.classes.names) == len(entry.classes.palette) == len(set(entry.classes.names))


@fuzzed
@given(data=st.data())
def test_a_damaged_record_is_refused_or_none_of_ours(tmp_path_factory, data):
    good = json.loads((weights.BUNDLED / "dfanet-a.json").read_text("utf-8"))
    path = tmp_path_factory.getbasetemp() / "fuzz-record.json"
    path.write_bytes(data.draw(damaged_text(good)))
    try:
        found = read_record(path)
    except UserError as error:
        refused(error)
        return
    said = json.loads(path.read_text("utf-8"))
    assert [getattr(found, key) for key in ("file", "sha256", "classes")] == [
        said[key] for key in ("file", "sha256", "classes")]


@fuzzed
@given(data=st.data())
def test_a_damaged_memory_of_tune_is_not_used_or_read_as_it_stands(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    artifact, _ = open_artifact(colours.artifact(folder / "tuned"))
    setting = tune.Setting(2, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        path = tune.remember(artifact, tune.Tuning(setting, setting, {"2x1": 3.5}))
        path.write_bytes(data.draw(damaged_text(json.loads(path.read_text("utf-8")))))
        found = tune.recall(artifact)
    if found is not None:
        assert dataclasses.asdict(found).items() <= json.loads(path.read_text("utf-8")).items()


TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@fuzzed
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_or_holds_finite_tensors(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.getbasetemp()
    whole, path = folder / f"whole{suffix}", folder / f"fuzz{suffix}"
    if not whole.exists():
        save_file(TENSORS, whole) if suffix == ".safetensors" else torch.save(TENSORS, whole)
    path.write_bytes(data.draw(torn(whole.read_bytes())))
    try:
        checkpoint = weights.read(find("lraspp-small"), str(path))
    except UserError as error:
        refused(error)
        return
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.tensors.values() if tensor.is_floating_point())


@fuzzed
@given(data=st.data())
def test_a_damaged_bundle_is_always_refused(tmp_path_factory, data):
    """Its hash is known; the user's own files above have none to be held against."""
    folder = tmp_path_factory.getbasetemp() / "bundle"
    folder.mkdir(exist_ok=True)
    record = {**json.loads((weights.BUNDLED / "lraspp-small.json").read_text("utf-8"))}
    whole = (weights.BUNDLED / "lraspp-small.safetensors").read_bytes()
    shutil.copy(weights.BUNDLED / "lraspp-small.json", folder)
    changed = data.draw(torn(whole))
    (folder / record["file"]).write_bytes(changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "BUNDLED", folder)
        if changed != whole:
            with pytest.raises(UserError, match="SHA-256"):
                weights.read(find("lraspp-small"), None)
