"""A hook of MkDocs: the page of all commands, made from what each prints for --help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGE = "reference/commands.md"
INTRODUCTION = """# Commands

Every command has the same manners: `--help` with an example, progress on a terminal only, one summary line at the end,
exit code 0, 1 for a failed gate, 2 for a mistake in the input. This page is what each prints for `--help`.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(helped, commands()))
    sections = [f"## {typed(text)}\n\n```text\n{text}\n```\n" for text in texts]
    files.append(File.generated(config, PAGE, content="\n".join([INTRODUCTION, *sections])))
    return files


def typed(text: str) -> str:
    """`python -m benchmarks latency`, of its help."""
    return " ".join(re.findall(r"python -m [\w.]+(?: [a-z]\w*(?= \[-h\]))?", text)[0].split())


def commands() -> list[str]:
    """Modules that are commands: those that hand a parser to `runtime.cli.run`."""
    found = set()
    for package in ("runtime", "calibration", "export", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            if "cli.run(" in path.read_text(encoding="utf-8"):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                found.add(module.removesuffix(".__main__"))
    return sorted(found)


def helped(name: str) -> str:
    """What `python -m NAME --help` prints at 82 columns, without colours."""
    plain = {**os.environ, "COLUMNS": "82", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-m", name, "--help"], cwd=ROOT, env=plain, capture_output=True, text=True,
                          check=True)
    return done.stdout.strip()
