"""A hook of MkDocs: the page of all commands, made from what each prints for --help."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(helped, names))
    sections = [f"## edgeseg {name}\n\n```text\n{text}\n```\n" for name, text in zip(names, texts)]
    files.append(File.generated(config, PAGE, content="\n".join([INTRODUCTION, *sections])))
    return files


def helped(name: str) -> str:
    """What a command prints for --help at 82 columns, without colours."""
    plain = {**os.environ, "COLUMNS": "82", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-m", "edgeseg", *name.split(), "--help"], cwd=ROOT, env=plain,
                          capture_output=True, text=True, check=True)
    return done.stdout.strip()
