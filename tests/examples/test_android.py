"""The Android app's core, compiled and run by a JDK, against the runtime; the shell around it is only parsed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.data.frames import drawn_frame
from runtime import mask
from runtime.artifact import json_path
from runtime.preprocess import Preprocess
from tests import colours

APP = Path(__file__).parent.parent.parent / "examples" / "android" / "app"
SOURCES = APP / "src" / "main" / "java" / "edgeseg"

Core = Callable[..., list[str]]


def javac(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["javac", "-J-XX:TieredStopAtLevel=1", "-proc:none", "--release", "17", *map(str, words)],
                          capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> Path:
    """The core and AndroidCore.java, compiled."""
    if not shutil.which("javac") or not shutil.which("java"):
        pytest.skip("no JDK is installed; apt install default-jdk-headless")
    folder = tmp_path_factory.mktemp("classes")
    done = javac("-Xlint:all", "-Werror", "-d", folder, *sorted((SOURCES / "core").glob("*.java")),
                 Path(__file__).with_name("AndroidCore.java"))
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def core(classes) -> Core:
    """Runs a command of AndroidCore.java on files in a folder; what it says, one line for each."""

    def run(command: str, folder: Path, *names: str) -> list[str]:
        return subprocess.check_output(["java", "-XX:TieredStopAtLevel=1", "-cp", str(classes), "AndroidCore", command,
                                        str(folder), *names], text=True).splitlines()

    return run


def street(rows: int, columns: int, classes: int, seed: int) -> np.ndarray:
    """float32 [rows, columns, classes]: large areas of one class, rough borders."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((classes, 1 + rows // 6, 1 + columns // 6)).astype(np.float32)
    fine = coarse.repeat(6, axis=1).repeat(6, axis=2)[:, :rows, :columns]
    return (fine + 0.3 * rng.standard_normal(fine.shape)).astype(np.float32).transpose(1, 2, 0)


NOISE = np.random.default_rng(5).standard_normal((7, 9, 13)).astype(np.float32)
PROBLEMS = {
    "network's stride": (street(45, 60, 11, 0), (360, 480)),
    "a camera's frame": (street(45, 60, 11, 1), (480, 640)),
    "upright": (street(60, 45, 11, 2), (640, 480)),
    "odd": (street(23, 31, 5, 3), (181, 247)),
    "smaller than the logits": (street(45, 60, 11, 4), (17, 29)),
    "every cell mixed": (NOISE, (61, 83)),
    "wide, where a position rounded twice shows": (street(3, 250, 21, 7), (400, 4001)),
    "ties": (np.round(NOISE), (50, 70)),
    "steep": (1e30 * NOISE, (50, 70)),
    "one class": (NOISE[..., :1], (20, 30)),
    "one cell": (NOISE[:1, :1], (20, 30)),
    "255 classes": (np.random.default_rng(6).standard_normal((3, 4, 255)).astype(np.float32), (17, 23)),
    "one pixel": (NOISE, (1, 1)),
}


def test_no_pixel_of_a_mask_differs_from_the_runtimes(core, tmp_path):
    """Not even in a tie: the same operations in the same order, each rounded to float32."""
    expected = {}
    for name, (logits, size) in PROBLEMS.items():
        for align in (False, True):
            header = np.int32([*logits.shape, *size, align])
            (tmp_path / f"{name} {align}").write_bytes(header.tobytes() + np.ascontiguousarray(logits).tobytes())
            expected[f"{name} {align}"] = mask.class_map(np.moveaxis(logits, -1, 0), size, align_corners=align)
    assert core("mask", tmp_path, *expected) == ["done"] * len(expected)
    differing = {name: int((np.fromfile(tmp_path / f"{name}.mask", np.uint8).reshape(classes.shape) != classes).sum())
                 for name, classes in expected.items()}
    assert differing == dict.fromkeys(expected, 0)
    assert min(len(np.unique(classes)) for name, classes in expected.items() if "one" not in name) > 2


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_logits_that_overflowed_are_refused(core, tmp_path, bad):
    logits = NOISE.copy()
    logits[3, 4, 5] = bad
    (tmp_path / "bad").write_bytes(np.int32([*logits.shape, 20, 30, 0]).tobytes() + logits.tobytes())
    (said,) = core("mask", tmp_path, "bad")
    assert re.match("refused: the logits hold infinite values or NaN.*expected finite numbers", said)


def test_a_frame_becomes_the_bgr_that_the_runtime_makes_of_it_to_one_level(core, tmp_path):
    """Rows of a camera's picture may lie further apart than they are long."""
    sizes = {"same": (40, 60), "down": (17, 25), "up": (81, 100), "mixed": (40, 31)}
    frame = drawn_frame((40, 60), 0)
    padded = np.full((40, 60 * 4 + 16), 77, np.uint8)
    padded[:, :240] = np.dstack([frame[..., ::-1], np.full((40, 60, 1), 255, np.uint8)]).reshape(40, -1)
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(np.int32([40, 60, 256, *size]).tobytes() + padded.tobytes())
    assert core("preprocess", tmp_path, *sizes) == ["done"] * len(sizes)
    for name, size in sizes.items():
        found = np.fromfile(tmp_path / f"{name}.bgr", np.uint8).reshape(1, *size, 3).astype(int)
        assert np.abs(found - Preprocess(size)(frame)).max() <= (0 if name == "same" else 1), name


@pytest.fixture
def described(tmp_path) -> tuple[Path, dict]:
    """The JSON of an artifact with a .tflite file's name, and what it says."""
    path = json_path(colours.artifact(tmp_path).rename(tmp_path / "colours.tflite"))
    (old,) = tmp_path.glob("*.onnx.json")
    values = json.loads(old.read_text("utf-8")) | {"file": "colours.tflite"}
    path.write_text(json.dumps(values, indent=2), "utf-8")
    return path, values


def test_the_app_reads_what_the_runtime_writes(core, described):
    path, _ = described
    assert core("artifact", path.parent, path.name) == [
        "colours fp32 colours.tflite 16x48 4x12 false blue,green,red 800000ff 8000ff00 80ff0000"]


def test_an_artifact_that_the_app_cannot_run_is_refused_with_what_was_expected(core, described):
    path, values = described
    changes = {
        "format is 1; expected 2": {"format": 1},
        "file is ../x.tflite; expected the plain name": {"file": "../x.tflite"},
        "file is x.onnx; expected the plain name of a .tflite": {"file": "x.onnx"},
        "output_kind is classes; expected low": {"output_kind": "classes"},
        "interpolation is area; expected linear": {"preprocess": values["preprocess"] | {"interpolation": "area"}},
        "dtype is float32; expected uint8": {"input": values["input"] | {"dtype": "float32"}},
        "layout is NCHW; expected NHWC": {"output": values["output"] | {"layout": "NCHW"}},
        "four fixed dimensions": {"input": values["input"] | {"shape": [1, 0, 0, 3]}},
        "classes is 2; expected as many": {"classes": ["a", "b"]},
        "three numbers from 0 to 255": {"palette": [[0, 0, 256]] * 3},
        "align_corners is missing": {"align_corners": None},
        "another type than expected": {"classes": "blue"},
        "expected a whole number": {"format": 1.5},
        "SHA-256 of colours.tflite is .*changed or cut short": {"sha256": "0" * 64},
    }
    for number, change in enumerate(changes.values()):
        (path.parent / f"{number}.json").write_text(json.dumps(values | change), "utf-8")
    said = core("artifact", path.parent, *(f"{number}.json" for number in range(len(changes))))
    assert [line for expected, line in zip(changes, said, strict=True) if not re.search(f"refused: .*{expected}", line)
            ] == []


def test_the_json_reader_reads_json_and_nothing_else(core, tmp_path):
    good = {'{"a": [1, -2.5e3, true, null], "b": {}}': "{a=[1.0, -2500.0, true, null], b={}}",
            r' "\u0041\n\"\/" ': 'A\n"/', "[[], 0, 10]": "[[], 0.0, 10.0]"}
    bad = ["", "{", "[1,]", '{"a":1,}', '{"a":1 "b":2}', "{a:1}", "01", "+1", ".5", "1.", "1e", "NaN", "tru", "[1] x",
           '"\t"', r'"\x"', r'"\u12g4"', '"open', "'a'", '{"a":1,"a":2}', "[" * 100 + "]" * 100]
    for number, text in enumerate([*good, *bad]):
        (tmp_path / str(number)).write_text(text, "utf-8")
    said = core("json", tmp_path, *map(str, range(len(good) + len(bad))))
    whole = "\n".join(said)
    assert whole.startswith("\n".join(good.values()) + "\n")
    refused = said[len("\n".join(good.values()).splitlines()):]
    assert [text for text, line in zip(bad, refused, strict=True) if not re.match("refused: .*; expected ", line)] == []


def test_the_core_imports_nothing_of_android():
    imports = {name for path in (SOURCES / "core").glob("*.java")
               for name in re.findall(r"^import ([\w.]+);", path.read_text("utf-8"), re.MULTILINE)}
    assert imports
    assert {name for name in imports if not name.startswith("java.")} == set()


def test_the_shell_is_java_and_lacks_only_what_android_brings(classes, tmp_path):
    """Neither a misspelt field of the core nor an unbalanced bracket: javac knows all but Android's own classes."""
    done = javac("-XDrawDiagnostics", "-Xmaxerrs", "1000", "-cp", classes, "-d", tmp_path,
                 *sorted((SOURCES / "app").glob("*.java")))
    found = re.findall(r"^(\w+\.java):\d+:\d+: compiler\.err\.([\w.]+)(.*)$", done.stderr, re.MULTILINE)
    assert {file for file, _, _ in found} == {path.name for path in (SOURCES / "app").glob("*.java")}
    assert {kind for _, kind, _ in found} <= {"doesnt.exist", "cant.resolve", "cant.resolve.location",
                                              "cant.resolve.location.args", "method.does.not.override.superclass"}
    assert [line for *_, line in found if "edgeseg.core" in line] == []


def test_the_manifest_names_the_activity_and_asks_for_the_camera():
    manifest = (APP / "src" / "main" / "AndroidManifest.xml").read_text("utf-8")
    activity = re.search(r'activity android:name="([\w.]+)"', manifest)[1]
    assert (SOURCES.parent / f"{activity.replace('.', '/')}.java").is_file()
    assert "android.permission.CAMERA" in manifest
    assert "Manifest.permission.CAMERA" in (SOURCES / "app" / "MainActivity.java").read_text("utf-8")
