"""Every command and every line of Python in the README is one that works."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.data.frames import drawn_frame
from export.target import target, targets
from runtime import cli
from tests import tiny

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = list(dict.fromkeys(" ".join(found.split()) for found in re.findall(
    r"python -m ([\w.]+(?: [^`|#]*?)?)(?=`|\n[^A-Z]|\n\n|$)", README) if "…" not in found))

CAMVID = "../shared/data/camvid"
MEANT = {"DIR": CAMVID, "VAL": f"{CAMVID}/val", "TRAIN": f"{CAMVID}/train", "FILE.onnx": "out/lraspp-360x480-fp32.onnx",
         "ARTIFACT": "out/lraspp-360x480-fp32.onnx", "FILE-int8.onnx": "out/lraspp-360x480-int8.onnx"}
"""What the README's placeholders stand for."""
SHORTER = {
    "benchmarks sweep": "--models lraspp-small --quick", "benchmarks mask": "--frames 2 --rounds 1",
    "benchmarks pipeline": "--frames 2 --rounds 1", "benchmarks temporal": "--rounds 1 --every 2",
    "export.training": "--epochs 1 --batch 2 --crop 64x96 --no-compile", "calibration": "--judge 4",
    "export.coreml": "--max-drop 10", "runtime": "--source ../shared/data/video/dashcam.mp4 --max-frames 3",
}
"""What is added to a command, by its first words, so that running it takes seconds; the last of two flags counts."""


@pytest.mark.parametrize("name", targets())
def test_every_target_has_a_row_that_says_what_nobody_has_executed(name):
    rows = [line for line in README.splitlines() if line.startswith(f"| {target(name).title}")]
    assert [row for row in rows if target(name).never_executed in row]


@pytest.mark.parametrize("command", COMMANDS)
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


@pytest.fixture
def workplace(tmp_path, data):
    """A folder beside `shared/`, where CamVid has 36 frames to train on and 6 to judge by."""
    for part, count in (("train", 36), ("val", 6)):
        for kind in ("images", "labels"):
            folder = tmp_path / "shared" / "data" / "camvid" / part / kind
            folder.mkdir(parents=True)
            for path in sorted((data / "camvid" / part / kind).iterdir())[:count]:
                (folder / path.name).symlink_to(path)
    (tmp_path / "shared" / "data" / "video").symlink_to(data / "video")
    (tmp_path / "main").mkdir()
    return tmp_path / "main"


@pytest.mark.slow
def test_every_command_runs_in_the_readmes_order(workplace):
    """But those that a network of one's own is put into, which `examples/own_network` runs."""
    failed = {}
    for command in (c for c in COMMANDS if "package.module" not in c):
        words = [re.sub(r"^[A-Z][\w.-]*", lambda it: MEANT.get(it[0], it[0]), word) for word in command.split()]
        more = next((more for start, more in SHORTER.items() if command.startswith(start)), "")
        done = subprocess.run([sys.executable, "-m", *words, *more.split()], cwd=workplace, capture_output=True,
                              text=True, check=False)
        if done.returncode:
            failed[command] = (done.stdout + done.stderr)[-300:]
    assert failed == {}


def test_the_python_runs(tmp_path, capsys):
    code = README.split("```python\n")[1].split("```")[0]
    path = tiny.artifact(tmp_path)
    exec(code.replace("out/lraspp-360x480-fp32.onnx", str(path)), {"frame": drawn_frame((50, 70), 0)})
    assert "(50, 70)" in capsys.readouterr().out
