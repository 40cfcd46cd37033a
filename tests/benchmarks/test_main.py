from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.__main__ import commands, main

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_listing_names_every_module_that_has_a_main(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(p.stem for p in FOLDER.glob("[!_]*.py") if "\ndef main(" in p.read_text(encoding="utf-8"))


def test_every_benchmark_says_in_one_line_what_it_measures() -> None:
    assert [name for name, what in commands().items() if not what] == []


def test_unknown_benchmark_is_the_users_mistake_and_the_error_names_the_known_ones(
        capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latencyy"]) == 2
    assert "known:" in capsys.readouterr().err
