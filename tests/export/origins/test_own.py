"""A user's own network: the example as it is described, and what an error says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from calibration.data.frames import drawn_frame
from export.build import build
from export.onnx.__main__ import main
from export.origins import find
from export.request import request
from export.target import Job
from export.wrapper import Deployable, traced
from runtime.artifact import OutputKind, open_artifact
from runtime.errors import UserError
from runtime.segmenter import Segmenter
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "own_network"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's files, with weights and an ONNX file of the same network."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("shallow.py", "shallow.toml"):
        shutil.copy(EXAMPLE / name, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        torch.manual_seed(3)
        network = find(f"shallow:shallow@{folder / 'shallow.toml'}").load()
    with torch.no_grad():
        network[4].weight.mul_(20)
    save_file(network.state_dict(), folder / "shallow.safetensors")
    torch.onnx.export(network, (torch.zeros(1, 3, 64, 96),), folder / "shallow.onnx", dynamo=True, opset_version=18,
                      verbose=False, external_data=False)
    return folder


@pytest.fixture
def own(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of those files, as the current folder."""
    for path in files.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_commands_work_as_written(own: Path) -> None:
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    python (-m export\.onnx .*)$", text, re.MULTILINE)
    assert len(commands) == 2
    first, second = (command.replace("--out out", f"--out out{number}").split()
                     for number, command in enumerate(commands))
    done = subprocess.run([sys.executable, *first], cwd=own, env={"PYTHONPATH": str(ROOT), "HOME": str(own)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert main(second[2:]) == 0  # in this process, which has imported torch
    artifacts = [open_artifact(own / f"out{number}" / "shallow-64x96-fp32.onnx")[0] for number in (0, 1)]
    assert [a.weights["source"] for a in artifacts] == ["shallow.safetensors", "shallow.onnx"]
    assert all(a.weights["trained"] and a.classes == ("road", "sky", "other") and a.stride == 4 for a in artifacts)
    frame = drawn_frame((50, 70), 0)
    masks = []
    for number in (0, 1):
        with Segmenter.open(own / f"out{number}" / "shallow-64x96-fp32.onnx") as segmenter:
            masks.append(segmenter(frame).mask)
    assert len(np.unique(masks[0])) > 1
    assert np.mean(masks[0] == masks[1]) > 0.9999  # the same network, once from torch and once from its file


@pytest.mark.parametrize("output", [OutputKind.LOGITS, OutputKind.CLASSES])
def test_an_onnx_file_can_return_the_other_outputs_too(own: Path, output: OutputKind) -> None:
    artifact, _ = open_artifact(build("onnx", Job(request("shallow.onnx", output=output), own / "out")))
    assert artifact.output.shape == ((1, 3, 64, 96) if output is OutputKind.LOGITS else (1, 64, 96))
    assert artifact.verification[0].step == "onnx vs file"
    assert artifact.verification[0].control is not None
    assert artifact.verification[0].control < 0.9


def test_a_toml_that_names_its_network_is_a_name(own: Path) -> None:
    text = (own / "shallow.toml").read_text(encoding="utf-8")
    (own / "mine.toml").write_text('onnx = "shallow.onnx"\nname = "mine"\n' + text, encoding="utf-8")
    assert find("mine.toml").spec.name == "mine"
    assert find("mine.toml").spec.builder == "shallow.onnx"
    (own / "code.toml").write_text('builder = "shallow:shallow"\n' + text, encoding="utf-8")
    assert find("code.toml").spec.builder == "shallow:shallow"
    assert find("code.toml").load()[0].out_channels == 12  # [options] reach the builder


MINIMAL = 'size = [64, 96]\nclasses = ["a", "b", "c"]\n'


@pytest.mark.parametrize(("text", "message"), [
    ('size = [64, 96]\n', "the key 'classes' is missing; classes: 2 to 255 different class names"),
    ('classes = "camvid"\n', "the key 'size' is missing"),
    (MINIMAL + 'sized = 3\n', "the key 'sized' is unknown; known: size, classes"),
    ('size = [64]\nclasses = "voc"\n', r"size is \[64\]; expected array of length 2, got 1; size: \[height, width\]"),
    ('size = [64, 96]\nclasses = "ade"\n', "one of camvid, cityscapes, voc"),
    (MINIMAL + 'palette = [[1, 2, 3]]\n', "has 3 classes and 1 colours; expected one"),
    (MINIMAL + 'colour_order = "gbr"\n', '"rgb" or "bgr"'),
    (MINIMAL + 'std = [0, 1, 1]\n', "three positive numbers"),
    (MINIMAL + 'stride = true\n', "input pixels per cell"),
    (MINIMAL + 'mean = [nan, 0, 0]\n', "mean.* is nan; .*three numbers in units of 0..1"),
    (MINIMAL + 'builder = "module"\n', '"package.module:function"'),
    ('size = [64, 96]\nclasses = ["a", "a"]\n', "has a class name twice"),
    ('size = [64', "cannot be read as TOML"),
    ("size = " + "[" * 100_000, "cannot be read as TOML"),
])
def test_a_toml_that_cannot_be_used_says_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        find(f"module:function@{tmp_path / 'x.toml'}")


@pytest.mark.parametrize(("name", "message"), [
    ("module:function", "--spec FILE.toml"),
    ("nowhere.onnx", "nowhere.toml cannot be read"),
    ("nowhere.toml", "cannot be read as TOML"),
])
def test_a_missing_file_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find(name)


@pytest.mark.parametrize(("origin", "message"), [
    ("no_such_module:function", "cannot be imported"),
    ("shallow:deep", "has no 'deep'"),
    ("shallow:__name__", "cannot be called with"),
    ("builtins:dict", "returned a dict; expected a torch.nn.Module"),
])
def test_a_builder_that_cannot_be_used_is_named(own: Path, origin: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find(f"{origin}@shallow.toml").load()


def test_logits_of_another_shape_than_promised_are_refused(own: Path) -> None:
    text = (own / "shallow.toml").read_text(encoding="utf-8").replace("stride = 4", "stride = 2")
    (own / "wrong.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"a tensor \(1, 3, 16, 24\).*expected logits of about \(1, 3, 32, 48\)"):
        request("shallow:shallow@wrong.toml", weights="none")


@pytest.mark.parametrize("trace", [traced, partial(torch.jit.trace, check_trace=False)])
def test_a_target_that_converts_torch_networks_says_so_of_an_onnx_file(own: Path, trace: Any) -> None:
    wanted = request("shallow.onnx")
    module = Deployable(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)
    with pytest.raises(UserError, match="is an ONNX file, and this target converts torch networks"):
        trace(module, torch.zeros(1, 64, 96, 3, dtype=torch.uint8))


def test_a_file_that_is_no_onnx_is_refused(own: Path) -> None:
    (own / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match="expected a valid ONNX file"):
        find("bad.onnx@shallow.toml").load()


def test_an_onnx_file_takes_no_other_weights(own: Path) -> None:
    with pytest.raises(UserError, match="holds its own weights"):
        request("shallow.onnx", weights="shallow.safetensors")
