"""A target is two places, because torch must not reach the device: a folder `export/x/` and `runtime/sessions/x.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.artifact import READERS
from runtime.sessions import targets

EXPORT = Path(__file__).parent.parent.parent / "export"
EXPORTED = [name for name in targets() if name not in READERS]


def test_every_session_has_the_exporter_that_feeds_it():
    assert [name for name in EXPORTED if not (EXPORT / name / "__init__.py").is_file()] == []
    assert READERS.keys() <= set(targets())
    assert set(READERS.values()) <= set(EXPORTED)


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exporter_of_a_target_has_a_command_and_a_build(name):
    text = (EXPORT / name / "__init__.py").read_text(encoding="utf-8")
    assert "\ndef build(" in text
    assert "\ndef main(" in text
