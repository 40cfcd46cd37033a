"""A hook of MkDocs: the page of all commands, made from what each prints for --help."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGE = "reference/commands.md"
INTRODUCTION = """# Commands

What each prints for `--help`. `edgeseg X` and `python -m X` are the same command.

All have the same manners: progress on a terminal only, one summary line at the end, nothing half-written left behind,
and exit code 0; 1 where a gate failed, 2 where the input was wrong.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.__main__ import commands as benchmarks
    from edgeseg.__main__ import commands

    names = [*commands(), *(f"benchmarks {name}" for name in benchmarks())]
    sections = [f"## edgeseg {name}\n\n```text\n{helped(name)}\n```\n" for name in names]
    files.append(File.generated(config, PAGE, content="\n".join([INTRODUCTION, *sections])))
    return files


def helped(name: str) -> str:
    """What a command prints for --help at 82 columns, without colours."""
    from edgeseg.__main__ import main

    with patch.dict(os.environ, COLUMNS="82", NO_COLOR="1"), redirect_stdout(StringIO()) as text, suppress(SystemExit):
        main([*name.split(), "--help"])
    return text.getvalue().strip()
