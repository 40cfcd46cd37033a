"""One tiny artifact for all benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported tiny network, with its JSON; not to be changed."""
    return tiny.artifact(tmp_path_factory.mktemp("tiny"))
