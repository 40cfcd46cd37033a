"""The emulated Arm64 machine: how it is built, and the short form of `make arm64`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess

import numpy as np
import pytest

from runtime.errors import UserError
from tests import debian
from tests.arm64 import root, suite
from tests.arm64.__main__ import _earlier, artifact, save_frames

CPU = "cortex-a72"


def test_everything_that_is_unpacked_is_pinned_by_its_hash():
    debs = [line.split() for line in root.DEBS.read_text("utf-8").splitlines()]
    assert {len(words) for words in debs} == {3}
    assert {words[0].split(":")[1] for words in debs} == {"arm64", "amd64"}  # amd64 is qemu's
    wheels = [line for line in root.WHEELS.read_text("utf-8").splitlines() if line != "# more"]
    assert all(len(line.split("==")[1].split("--hash=sha256:")[1]) == 64 for line in wheels)
    assert all(len(sha256) == 64 for *_, sha256 in debs)


def test_the_base_install_is_told_from_the_other_engines():
    names = root._needed_by_base()
    assert {"numpy", "opencv-python", "onnxruntime"} <= names
    assert not names & {"openvino", "ai-edge-litert", "pytest"}


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("machine", "tools", "message"), [
    ("aarch64", {"apt-get", "dpkg-deb"}, "aarch64 was found; the Arm64 root needs Linux on x86-64. Try: make test"),
    ("x86_64", {"dpkg-deb"}, "apt-get cannot be found; .* Debian 12's packages"),
])
def test_where_it_cannot_be_built_one_line_says_why(empty_cache, monkeypatch, machine, tools, message):
    monkeypatch.setattr(root.platform, "machine", lambda: machine)
    monkeypatch.setattr(root.sys, "platform", "linux")
    monkeypatch.setattr(root.shutil, "which", lambda tool: tool if tool in tools else None)
    with pytest.raises(UserError, match=message):
        root.interpreter(CPU)
    assert list(empty_cache.iterdir()) == []


def test_a_package_with_another_hash_is_refused_and_removed(tmp_path):
    path = tmp_path / "libc6.deb"
    path.write_bytes(b"another")
    with pytest.raises(UserError, match="another SHA-256 than debs"):
        debian.hold_against(path, hashlib.sha256(b"pinned").hexdigest(), root.DEBS)
    assert not path.exists()


def test_what_breaks_off_leaves_no_half_built_root(empty_cache, monkeypatch):
    monkeypatch.setattr(root, "_check_machine", lambda: None)
    monkeypatch.setattr(debian, "debs", lambda pins, downloads: [downloads / "x_1_arm64.deb"])
    with pytest.raises(UserError, match="dpkg-deb --extract"):
        root.interpreter(CPU)
    assert [path.name for path in (empty_cache / "edgeseg" / "arm64").iterdir()] == ["downloads"]


def test_apts_line_of_a_package_becomes_one_of_ours():
    said = "'http://x/pool/q/qemu_7.2%2bdfsg_amd64.deb' qemu_1%3a7.2+dfsg_amd64.deb 626 SHA256:c3e3"
    assert debian._deb_line(said) == "qemu:amd64 1:7.2+dfsg c3e3\n"


@pytest.mark.parametrize(("name", "differing", "passed"), [
    ("x-fp32.onnx", 1, True), ("x-fp32.onnx", 3, False), ("x-int8.onnx", 3, None)])
def test_fp32_must_agree_and_int8_is_only_reported(tmp_path, name, differing, passed):
    here, there = np.zeros((1, 100, 200), np.uint8), np.zeros((1, 100, 200), np.uint8)
    there.flat[:differing] = 1
    for folder, mask in (("here", here), ("there", there)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / f"{name}.npy", mask)
    done = subprocess.CompletedProcess([], 0, "", "")
    row = suite._compared(tmp_path / name, CPU, "onnx", tmp_path / "here", tmp_path / "there", done)
    assert (row.passed, row.differing, row.agreement) == (passed, differing, 1 - differing / 20000)
    (tmp_path / "there" / f"{name}.npy").unlink()
    died = subprocess.CompletedProcess([], -11, "", "Segmentation fault\n")
    row = suite._compared(tmp_path / name, CPU, "onnx", tmp_path / "here", tmp_path / "there", died)
    assert (row.passed, row.said) == (False, "ended with -11: Segmentation fault")


def test_an_int8_mask_is_also_held_against_fp32_to_tell_whose_kernels_err(tmp_path):
    for folder, name, differing in (("here", "x-fp32", 0), ("here", "x-int8", 20), ("there", "x-int8", 1)):
        mask = np.zeros((1, 10, 10), np.uint8)
        mask.flat[:differing] = 1
        (tmp_path / folder).mkdir(exist_ok=True)
        np.save(tmp_path / folder / f"{name}.onnx.npy", mask)
    row = suite._compared(tmp_path / "x-int8.onnx", CPU, "onnx", tmp_path / "here", tmp_path / "there",
                          subprocess.CompletedProcess([], 0, "", ""))
    assert (row.passed, row.differing, row.as_fp32) == (None, 19, (0.99, 0.8))


@pytest.mark.slow
def test_one_network_through_two_engines_gives_x86s_masks(tmp_path, data):
    """The short form; `make arm64` is the long one."""
    try:
        python = root.interpreter(CPU)
    except UserError as error:
        pytest.skip(str(error))
    assert subprocess.check_output([python, "-c", "import platform; print(platform.machine())"]) == b"aarch64\n"
    assert suite.imports(CPU).passed
    path = artifact(tmp_path, "lraspp-small", "fp32", "onnx", data / "camvid")
    frames = save_frames(data / "camvid", 1, tmp_path / "frames.npy")
    for engine in ("onnx", "openvino"):
        (row,) = suite.masks(CPU, engine, [path], frames, tmp_path)
        assert row.passed, row


def test_the_same_command_goes_on_after_the_last_row_and_makes_those_again_whose_inputs_changed(tmp_path):
    kept, failed = suite.Row("import", CPU, passed=True), suite.Row("masks", CPU, "onnx", "x.onnx", passed=False)
    report = tmp_path / "report.json"
    assert _earlier(report) == []
    report.write_text(json.dumps([dataclasses.asdict(row) for row in (kept, failed)]))
    assert _earlier(report) == [kept]
    artifact, frames = tmp_path / "x.onnx", tmp_path / "frames.npy"
    for path in (artifact, frames):
        path.write_bytes(b"a")
    before = suite.key("masks", CPU, "onnx", artifact, frames)
    assert before[:-1] == failed.key[:-1]
    assert suite.key("masks", CPU, "onnx", artifact, frames) == before
    frames.write_bytes(b"b")
    assert suite.key("masks", CPU, "onnx", artifact, frames) != before
