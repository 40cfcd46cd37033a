"""What the runtime's tests share: one artifact, and the command in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import colours
from tests.conftest import ROOT

TIMEOUT_S = 120 * int(os.environ.get("EDGESEG_PATIENCE", "1"))
"""An emulated machine takes more of it."""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine that answers with the brightest channel."""
    return colours.artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def command() -> Command:
    """`python -m runtime ...` in a process of its own, where exit codes, limits and signals are real."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "runtime", *map(str, arguments)], cwd=ROOT, timeout=TIMEOUT_S,
                              capture_output=True, text=True, **options)

    return run
