"""Every command and every line of Python in the README is one that works."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from calibration.frames import drawn_frame
from runtime import cli
from tests import tiny

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted({" ".join(found.split()) for found in
                   re.findall(r"python -m ([\w.]+(?: [^`|#]*?)?)(?=`|\n[^A-Z]|\n\n|$)", README)})


@pytest.mark.parametrize("command", [c for c in COMMANDS if "…" not in c])
def test_a_command_has_the_flags_that_the_readme_gives_it(command, monkeypatch):
    parsed = []
    monkeypatch.setattr(cli, "run", lambda run, parser, argv=None: parsed.append(parser.parse_args(argv)) or 0)
    module, *words = command.split()
    package = importlib.util.find_spec(module)
    assert package is not None, f"there is no {module}"
    name = f"{module}.__main__" if package.submodule_search_locations else module
    assert importlib.import_module(name).main(words) == 0
    assert len(parsed) == 1


def test_the_commands_were_found():
    assert len(COMMANDS) >= 10


def test_the_python_runs(tmp_path, capsys):
    code = README.split("```python\n")[1].split("```")[0]
    path = tiny.artifact(tmp_path)
    exec(code.replace("out/lraspp-360x480-fp32.onnx", str(path)), {"frame": drawn_frame((50, 70), 0)})
    assert "(50, 70)" in capsys.readouterr().out
