"""What our files are held against is the same network, prepared as its users do; never how fast it is."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import stock
from benchmarks.stock import Contender, Duel, check_same, duels, engines_here, main, measured, sentence, table
from calibration.data.frames import drawn_frame
from runtime.errors import GateFailed, UserError
from tests import tiny

FRAMES = [drawn_frame((32, 48), index) for index in range(2)]


def duel(engine: str, *ms: float) -> Duel:
    """Four contenders whose every frame takes as long."""
    return Duel(engine, *(Contender(lambda frame: frame[..., 0], [[taken]] * 4) for taken in ms))


def test_a_users_preprocessing_is_the_networks_own() -> None:
    preprocess = tiny.SPEC.preprocess
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    expected = (FRAMES[0][..., ::-1].transpose(2, 0, 1) / 255 - mean) / std
    np.testing.assert_allclose(stock.normalised(preprocess, FRAMES[0])[0], expected, atol=1e-6)
    assert stock.normalised(preprocess, drawn_frame((64, 96), 0)).shape == (1, 3, 32, 48)


@pytest.mark.slow
def test_ours_and_the_plain_conversion_make_the_same_masks(tmp_path: Path) -> None:
    with ExitStack() as stack:
        found, = duels(tiny.request(), {"onnx": ["onnx"]}, tmp_path, stack)
        assert check_same([found], FRAMES) > 0.999
        measured([found], FRAMES, rounds=2, count=3)
        low = found.plain_alone.run(FRAMES[0])
    assert low.shape == (1, 11, 8, 12)
    assert [len(contender.times) for contender in found.contenders] == [2] * 4
    assert {path.name for path in tmp_path.glob("*.onnx")} == {
        "tiny-32x48-fp32.onnx", "tiny-32x48-fp32-stock-full.onnx", "tiny-32x48-fp32-stock-low.onnx"}


def test_two_networks_are_never_compared() -> None:
    class Result:
        mask = np.zeros((32, 48), np.uint8)

    other = Duel("onnx", Contender(lambda frame: Result), Contender(lambda frame: Result.mask + 1),
                 *[Contender(torch.nn.Identity())] * 2)
    with pytest.raises(GateFailed, match=r"0\.00% of pixels have the class of the plain conversion"):
        check_same([other], FRAMES)


@pytest.mark.parametrize(("ours", "verdict"), [(4.0, "met"), (10.0, "missed")])
def test_the_sentence_says_whether_the_fastest_meets_the_target(ours: float, verdict: str) -> None:
    line = sentence("net", duel("onnx", ours, 8.0, 3.0, 4.0))
    assert f"takes {ours / 8:.2f} [{ours / 8:.2f}, {ours / 8:.2f}] of a plain conversion's time" in line
    assert "0.75 [0.75, 0.75] in the engine alone" in line
    assert line.endswith(verdict)


def test_the_table_has_a_line_for_each_engine() -> None:
    lines = table([duel("onnx", 4.0, 8.0, 3.0, 4.0), duel("openvino", 5.0, 5.0, 3.0, 3.0)]).splitlines()
    assert lines[1].split() == ["onnx", "4.00", "8.00", "0.50", "[0.50,", "0.50]", "3.00", "4.00", "0.75", "[0.75,",
                                "0.75]"]
    assert lines[2].split()[0] == "openvino"


def test_engines_of_targets_without_a_plain_converter_are_refused_by_name() -> None:
    assert "onnx" in engines_here([None])["onnx"]
    assert engines_here(["onnx"]) == {"onnx": ["onnx"]}
    with pytest.raises(UserError, match="ncnn has no plain conversion here to stand against; expected some of"):
        engines_here(["onnx", "ncnn"])


def test_a_network_that_nobody_knows_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-network", "--out", str(tmp_path)]) == 2
    assert "no-such-network" in capsys.readouterr().err
