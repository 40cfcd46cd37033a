"""All commands speak alike: a flag has one meaning, and every help names its defaults as they are typed."""

from __future__ import annotations

import argparse
import importlib
import re
from collections import defaultdict

import pytest

from runtime import cli
from tests.conftest import PACKAGES, ROOT

MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts)
                 for package in PACKAGES
                 for path in (ROOT / package).rglob("*.py") if "cli.run(" in path.read_text(encoding="utf-8"))

TWO_MEANINGS = {
    "--frames",  # of an exporter or latency: a folder of images; where images are given anyway: how many
    "--threads", "--weights",  # a sweep and latency take several
    "--out",  # of a report: a file
    "--json",  # of python -m export.models: print JSON; elsewhere a file
    "--every",  # of the temporal benchmark: several values
    "--serve",  # of a page for phones: any address; of a stream: a port of this machine
    "--source",  # of the runtime: also a camera; of a benchmark: a file; of a batch: several
    "--masks",  # of the runtime: where to; of a batch, which has one place for all: as what
}


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser that a command would parse with."""
    return cli.parser_of(importlib.import_module(module).main)


def options(module: str) -> list[argparse.Action]:
    return [action for action in parser_of(module)._actions
            if action.option_strings and action.dest != "help"]


@pytest.mark.parametrize("module", MODULES)
def test_every_flag_is_explained_and_its_default_is_said_as_it_is_typed(module):
    parser = parser_of(module)
    assert all(action.help for action in parser._actions)
    said = " ".join(parser.format_help().split())
    assert not re.search(r"default: ?(None|True|False|\[|\(|\))", said)
    assert said.count("example: python -m ") == 1


def test_the_same_flag_takes_the_same_thing_everywhere():
    takes: dict[str, dict[object, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module in MODULES:
        for action in options(module):
            for flag in action.option_strings:
                word = None if action.nargs == 0 or action.choices else (
                    action.metavar or cli._Help("")._get_default_metavar_for_optional(action))
                takes[flag][word].append(module)
    unlike = {flag: dict(words) for flag, words in takes.items() if len(words) > 1}
    assert unlike.keys() <= TWO_MEANINGS, unlike


@pytest.mark.parametrize("module", MODULES)
def test_every_count_says_how_small_it_may_be(module):
    unbounded = [action.option_strings for action in options(module)
                 if action.type is int and not action.choices]
    assert unbounded == []


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "", "²"])
def test_a_count_is_a_whole_number_from_its_least(text):
    for kind in (cli.natural, cli.positive):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number of at least"):
            kind(text)
    assert (cli.natural("0"), cli.positive("1")) == (0, 1)
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        cli.positive("0")
