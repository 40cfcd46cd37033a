"""`python -m export.models`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from export.models.__main__ import main
from export.origins import names


def test_the_list_has_every_network_and_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names()
    assert "42.00 M" in next(line for line in lines if line.startswith("deeplabv3 "))


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert next(row for row in rows if row["name"] == "sfnet")["input"] == "512x1024"


def test_one_network_is_described_with_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dfanet-a"]) == 0
    out = capsys.readouterr().out
    assert "mIoU 71.3: Cityscapes test, 1024x1024 [DFANet paper]" in out
    assert "cannot be had together" in out


def test_an_unknown_name_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dfanet"]) == 2
    assert "Try: dfanet-" in capsys.readouterr().err


def test_listing_loads_neither_torch_nor_onnx_nor_opencv() -> None:
    code = ("import sys; from export.models.__main__ import main; main([]); "
            "sys.exit(bool({'torch', 'onnx', 'cv2', 'onnxruntime'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
