"""The rules that keep the house in order: imports point one way, the device stays thin, nothing is left unshipped."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import PACKAGES, ROOT, tree


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    later = set(PACKAGES[PACKAGES.index(package) + 1:])
    offenders = {str(path.relative_to(ROOT)): sorted(imported(path) & later)
                 for path in (ROOT / package).rglob("*.py") if imported(path) & later}
    assert offenders == {}


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """The modules of ours that a file imports anywhere, except for its annotations alone."""
    found = set()
    annotations = {id(node) for branch in ast.walk(tree(path)) if isinstance(branch, ast.If)
                   and ast.unparse(branch.test) == "TYPE_CHECKING" for node in ast.walk(branch)}
    for node in ast.walk(tree(path)):
        if id(node) in annotations:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            files = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            found |= files if len(files) == len(node.names) else {*files, node.module}
    return found & modules


def test_no_file_imports_what_imports_it():
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
             for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    order = TopologicalSorter({name: imports_of(path, set(paths)) - {name} for name, path in paths.items()})
    assert len(list(order.static_order())) == len(paths)  # raises CycleError, which names the circle


def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 200  # more than nothing was read
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_importing_the_runtime_brings_in_nothing_of_the_host():
    code = ("import sys, runtime, runtime.segmenter, runtime.sessions.onnx, runtime.overlay, runtime.video\n"
            "print(sorted({'torch', 'onnx', 'onnxruntime', 'export', 'coremltools'} & set(sys.modules)))")
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_one_place_imports_onnx_runtime_because_it_turns_its_telemetry_off_first():
    places = [str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
              if "onnxruntime" in imported(path)]
    assert places == ["runtime/sessions/onnx.py"]


def test_every_package_is_listed_for_shipping_and_no_test_is():
    listed = {line.strip(' ",') for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
              .split("packages = [")[1].split("]")[0].replace(",", "\n").splitlines() if line.strip()}
    present = {".".join(path.parent.relative_to(ROOT).parts)
               for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    assert listed == present


COMMANDS = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
                  for package in PACKAGES for path in (ROOT / package).rglob("*.py")
                  if "def main(argv" in path.read_text(encoding="utf-8"))


def test_commands_in_rooms_are_among_those_that_are_tested():
    assert {"runtime", "calibration", "export", "export.onnx", "export.trt", "export.coreml", "export.models",
            "export.training.train", "benchmarks", "benchmarks.sweep"} <= set(COMMANDS)


def test_every_command_has_a_line_of_its_own_in_the_map_that_edgeseg_prints():
    """Its docstring begins with "`python -m NAME`: what it does"."""
    from edgeseg.__main__ import commands

    assert [name for name, (_, what) in commands().items() if not what] == []


HELP = """
import runpy, sys
for command in sys.argv[1:]:
    before, sys.argv = set(sys.modules), ["x", "--help"]
    try: runpy.run_module(command, run_name="__main__")
    except SystemExit as end: print("exit", end.code)
    print("heavy", sorted({"torch", "onnx", "cv2", "onnxruntime", "tensorrt_rtx", "coremltools", "matplotlib", "plotly",
        "ai_edge_litert", "litert_torch", "jax", "ncnn", "pnnx", "executorch", "jinja2"} & (set(sys.modules) - before)))
    print("end of", command)
"""
"""Asks commands for help one after the other, and prints what each loads that none before it has."""


@pytest.fixture(scope="module")
def helps():
    """Command → what it prints for --help, its exit code, and what it loads: of one process, as starts take time."""
    text = subprocess.check_output([sys.executable, "-c", HELP, *COMMANDS], text=True, cwd=ROOT)
    parts = re.split(r"^end of (.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[::2]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example_and_without_loading_anything_heavy(command, helps):
    assert "example: python -m " in helps[command]
    assert "exit 0" in helps[command]
    assert "heavy []" in helps[command]


def rooms_of(name: str) -> tuple[str, ...]:
    """The places that may name a target or an engine."""
    return (f"export/{name}/", f"runtime/sessions/{name.replace('-', '_')}", "runtime/sessions/_")


def names_in(path: Path) -> set[str]:
    """Whole strings, and modules of rooms that are imported, but for the text of docstrings and messages."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            names = [*parts, *(alias.name for alias in node.names)]
            place = 1 if parts[0] == "export" else 2 if parts[:2] == ["runtime", "sessions"] else 0
            found |= {names[place]} if place else set()
    return found


GRAPHS = "onnx"
"""The format that calibration rewrites, benchmarks count and profile, and other targets start from."""


def test_nothing_outside_of_a_targets_room_and_its_session_names_it():
    from export.target import targets
    from runtime.sessions import engines

    offenders = {}
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        place = path.relative_to(ROOT).as_posix()
        found = names_in(path)
        named = {name for name in {*targets(), *engines()} - {GRAPHS} if {name, name.replace("-", "_")} & found
                 and not place.startswith(rooms_of(name))}
        if named:
            offenders[place] = sorted(named)
    assert offenders == {}


def test_every_package_that_the_code_imports_is_asked_for_in_pyproject():
    """And the other way round: what nobody imports, and no comment there explains, goes."""
    wheels = {"cv2": "opencv-python", "tensorrt_rtx": "tensorrt-rtx-cu13", "cuda": "cuda-bindings", "PIL": "pillow",
              "ai_edge_litert": "ai-edge-litert", "ai_edge_quantizer": "ai-edge-quantizer",
              "litert_torch": "litert-torch", "segmentation_models_pytorch": "segmentation-models-pytorch",
              "huggingface_hub": "huggingface-hub"}
    by_nature = {"tensorrt", *sys.stdlib_module_names, *PACKAGES}  # tensorrt comes from NVIDIA's index or JetPack
    used = {wheels.get(name, name) for package in PACKAGES for path in (ROOT / package).rglob("*.py")
            for name in imported(path)} - by_nature
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = set(re.findall(r'"([A-Za-z][\w-]*)[^"]*"', text.split("dependencies = [", 1)[1].split("[tool.")[0]))
    unasked = {line.split("==")[0] for path in ROOT.glob("export/*/requirements.txt")  # installed with --no-deps
               for line in path.read_text(encoding="utf-8").splitlines()}
    assert used - asked - unasked == set()


def test_every_dependency_is_on_a_line_that_says_what_for():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text.split("dependencies = [", 1)[1].split("[project.scripts]")[0].splitlines()
    asked = [line for line in lines if re.search(r'"[A-Za-z]', line)]
    assert len(asked) > 15
    assert [line for line in asked if "  # " not in line] == []
