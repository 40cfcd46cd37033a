"""Every command, link and line of Python in the README and the documentation is one that works."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.data.frames import drawn_frame
from export.target import target, targets
from runtime import cli
from tests import tiny

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"(?:python -m |[`$] ?edgeseg )([a-z][\w.]+(?: [^`|#\n]*)?)(?=`|#|\n|$)")


def commands(page: Path) -> list[str]:
    """Of a page, without repetitions; "…" stands for what a reader is to fill in."""
    text = page.read_text(encoding="utf-8")
    return [found for found in dict.fromkeys(" ".join(it.split()) for it in COMMAND.findall(text))
            if "…" not in found and re.split(r"\W", found)[0] in ("runtime", "calibration", "export", "benchmarks")]


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))

CAMVID = "../shared/data/camvid"
MEANT = {"DIR": CAMVID, "VAL": f"{CAMVID}/val", "TRAIN": f"{CAMVID}/train", "FILE.onnx": "out/lraspp-360x480-fp32.onnx",
         "ARTIFACT": "out/lraspp-360x480-fp32.onnx", "FILE-int8.onnx": "out/lraspp-360x480-int8.onnx",
         "rows.jsonl": "out/sweep/rows.jsonl", "videos": "../shared/data/video"}
"""What the placeholders of the pages stand for."""
SHORTER = {
    "benchmarks sweep": "--models lraspp-small --quick", "benchmarks mask": "--frames 2 --rounds 1",
    "benchmarks engines": "--quick --max-frames 2", "benchmarks int8": "--quick --max-frames 2",
    "benchmarks layers": "--rounds 1", "benchmarks stock": "--rounds 1",
    "benchmarks pipeline": "--frames 2 --rounds 1", "benchmarks temporal": "--rounds 1 --every 2",
    "export.training": "--epochs 1 --batch 2 --crop 64x96 --no-compile", "calibration": "--judge 4",
    "export.coreml": "--max-drop 10", "runtime ": "--source ../shared/data/video/dashcam.mp4 --max-frames 3",
}
"""What is added to a command, by its first words, so that running it takes seconds; the last of two flags counts."""
REFUSED = re.compile(r"is faster in float in this engine on this machine|a frame takes [\d.]+ ms with .* are allowed")
"""What calibration for an engine rightly ends with on a processor without instructions for sums of byte products, or on
one that needs longer than `--max-ms`."""
ELSEWHERE = ("ssh://", "ray://", "s3://", "benchmarks phone", ".plan", ".mlpackage", "export.web", "--runtime trt",
             "HEAD:6379", "package.module", "shallow", "hf:", "smp:", "torchvision:", "mine.pth", "NAME", "VIDEO",
             "--all")
"""What a command has in it that runs on other machines or on other people's files, or counts all networks, which takes
a part's time (`tests/benchmarks/test_complexity.py`); other tests run most of them."""


@pytest.mark.parametrize("name", targets())
def test_every_target_has_a_row_that_says_what_nobody_has_executed(name):
    page = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| {target(name).title}")]
    assert [row for row in rows if target(name).never_executed in row]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_flags_that_a_page_gives_it(command, monkeypatch):
    parsed = []
    monkeypatch.setattr(cli, "run", lambda run, parser, argv=None: parsed.append(parser.parse_args(argv)) or 0)
    module, *words = command.split()
    package = importlib.util.find_spec(module)
    assert package is not None, f"there is no {module}"
    name = f"{module}.__main__" if package.submodule_search_locations else module
    assert importlib.import_module(name).main(words) == 0
    assert len(parsed) == 1


def test_the_commands_were_found():
    assert len(COMMANDS) >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_two_sections_of_a_page_have_one_name(page):
    """As a page that had half of itself pasted into its middle would."""
    sections = re.findall(r"^## .+$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(sections) == len(set(sections))


def test_the_site_is_built_and_no_link_in_it_is_broken(tmp_path):
    """MkDocs makes a broken link, a missing page or an unknown name in the reference an error."""
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    site = tmp_path / "site"
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site], cwd=ROOT,
                          env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--max-drop" in (site / "reference" / "commands" / "index.html").read_text(encoding="utf-8")


HERE = sorted((command for command in COMMANDS if not any(word in command for word in ELSEWHERE)),
              key=lambda command: (not command.startswith(("export", "calibration")), "report" in command))
"""Commands that run on one machine with CamVid: exports and calibrations, what uses their files, reports of that."""
FIGURES = [command for command in HERE if command.startswith(("export.onnx", "benchmarks"))]
"""Those that measure, and the exports that they need."""
OTHERS = [command for command in HERE if not command.startswith("benchmarks") and "articles" not in command]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, data):
    """A folder beside `shared/`, where CamVid has 36 frames to train on and 6 to judge by."""
    folder = tmp_path_factory.mktemp("workplace")
    for part, count in (("train", 36), ("val", 6)):
        for kind in ("images", "labels"):
            camvid = folder / "shared" / "data" / "camvid" / part / kind
            camvid.mkdir(parents=True)
            for path in sorted((data / "camvid" / part / kind).iterdir())[:count]:
                (camvid / path.name).symlink_to(path)
    (folder / "shared" / "data" / "video").symlink_to(data / "video")
    (folder / "main").mkdir()
    return folder / "main"


@pytest.mark.slow
@pytest.mark.xdist_group("commands")
@pytest.mark.parametrize("command", OTHERS)
def test_a_command_runs(command, workplace):
    """In the order of `HERE`, in one folder; one that needs a file of an earlier one fails where that one failed."""
    check_as_a_page_says(command, workplace)


@pytest.mark.slow
@pytest.mark.xdist_group("figures")
@pytest.mark.parametrize("command", FIGURES)
def test_a_figure_is_measured(command, workplace):
    """Likewise."""
    check_as_a_page_says(command, workplace)


def check_as_a_page_says(command, workplace):
    words = [re.sub(r"^[\w.-]+", lambda it: MEANT.get(it[0], it[0]), word) for word in command.split()]
    more = next((more for start, more in SHORTER.items() if command.startswith(start)), "")
    done = subprocess.run([sys.executable, "-m", *words, *more.split()], cwd=workplace, capture_output=True,
                          text=True, check=False, timeout=1200)
    assert done.returncode == 0 or REFUSED.search(done.stderr), (done.stdout + done.stderr)[-300:]


@pytest.mark.parametrize("page", [page for page in PAGES if "```python\n" in page.read_text(encoding="utf-8")
                                  and page.stem != "recipes"], ids=lambda page: page.stem)
def test_the_python_runs(tmp_path, monkeypatch, capsys, page):
    """Every block, from top to bottom, over a tiny network in the place of the page's; recipes have their own test."""
    path = tiny.artifact(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"frame": drawn_frame((50, 70), 0)}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(re.sub(r"out/[\w.-]+\.onnx", str(path), block), names)
    assert "50" in capsys.readouterr().out  # the frame's height, as every page prints its mask's shape
