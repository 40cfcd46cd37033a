"""The published schema: current, and true of what is written."""

from __future__ import annotations

import dataclasses
import json

import pytest

from runtime.artifact import json_path
from runtime.schema import main, text
from tests.conftest import ROOT


def test_the_published_schema_is_current():
    assert (ROOT / "docs" / "artifact.schema.json").read_text(encoding="utf-8") == text(), \
        "python -m runtime.schema > docs/artifact.schema.json"


def test_the_command_prints_it(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == text()


def test_every_field_is_explained_for_those_who_read_it_elsewhere():
    page = (ROOT / "docs" / "artifact.md").read_text(encoding="utf-8")
    schema = json.loads(text())
    names = {*schema["properties"], *(name for part in schema["$defs"].values() for name in part.get("properties", ()))}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_what_is_written_fits_the_schema_and_damage_does_not(artifact):
    jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema is not installed")
    check = jsonschema.Draft202012Validator(json.loads(text()))
    values = json.loads(json_path(artifact).read_text(encoding="utf-8"))
    assert list(check.iter_errors(values)) == []
    for key, damage in (("stride", 0), ("palette", []), ("more", 1), ("sha256", "x")):
        assert list(check.iter_errors({**values, key: damage}))


def test_the_schema_leaves_out_no_field():
    from runtime.artifact import Artifact

    assert json.loads(text())["required"] == ["format", *(field.name for field in dataclasses.fields(Artifact))]
