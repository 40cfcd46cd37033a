import pytest

from calibration.judge import verdict
from calibration.judge.processor import Processor
from calibration.judge.verdict import OrtFusion, Speed, conclusion, half_weights, measure_speed

PLAIN, VNNI = Processor("x86_64", ()), Processor("x86_64", ("AVX512-VNNI",))
UNFUSED, FUSED = OrtFusion(66, 17, 261), OrtFusion(66, 0, 0)


def speeds(ratio):
    return [Speed("ONNX Runtime", "float32", 10.0, 1.0), Speed("ONNX Runtime", "int8", 10.0 * ratio, ratio)]


def test_a_slower_int8_is_called_slower_with_its_reasons():
    text = conclusion(speeds(1.6), PLAIN, UNFUSED)
    assert "INT8 is slower here (1.6x): ship float" in text
    assert "without dot-product instructions" in text
    assert "17 of 66 convolutions stay in float and 261 conversions" in text
    assert "ONNX Runtime with the float32 file is fastest, 10.0 ms" in text


def test_a_win_is_stated_as_plainly_and_needs_no_reasons():
    text = conclusion(speeds(0.5), VNNI, FUSED)
    assert "INT8 is faster here (2.0x)\n" in text
    assert "ONNX Runtime with the int8 file is fastest, 5.0 ms" in text


@pytest.mark.parametrize("ratio", [0.97, 1.03])
def test_a_difference_within_the_noise_is_no_win(ratio):
    assert "as fast as float here; it saves size only" in conclusion(speeds(ratio), VNNI, FUSED)


@pytest.mark.parametrize(("ms", "named"), [(10.4, True), (10.6, False)])
def test_a_second_engine_that_is_as_fast_is_named(ms, named):
    other = Speed("OpenVINO", "int8", ms, 0.5)
    last = conclusion([*speeds(1.6), other], VNNI, FUSED).splitlines()[-1]
    assert "ONNX Runtime with the float32 file is fastest, 10.0 ms" in last
    assert ("; OpenVINO with the int8 file is as fast, 10.4 ms." in last) is named


def test_ratios_are_those_of_one_round_and_every_engine_takes_its_turn_in_each(monkeypatch):
    order = []
    takes = {"float32": iter(([9, 10, 11], [20, 20, 90], [10, 10, 10])),
             "int8": iter(([4, 4, 4], [6, 6, 6], [5, 5, 9]))}

    def turn(run, count):
        order.append(run())
        return next(takes[order[-1]])

    monkeypatch.setattr(verdict, "turn", turn)
    found = measure_speed({("e", kind): (lambda frame, kind=kind: kind) for kind in takes}, None, rounds=3)
    assert order == ["float32", "int8"] * 3
    assert [(speed.kind, speed.median_ms, speed.ratio) for speed in found] == [
        ("float32", 10, 1), ("int8", 5, 0.4)]  # the median of 0.4, 0.3 and 0.5, not 5 / 10


def test_half_weights_halve_the_file_and_keep_the_result(tmp_path):
    from calibration.data.frames import drawn_frame
    from calibration.judge.engines import Simulated
    from calibration.source import load_onnx
    from tests import tiny

    model = load_onnx(tiny.artifact(tmp_path))
    half = half_weights(model)
    frame = drawn_frame((32, 48), 0)[None]
    assert model.ByteSize() - half.ByteSize() > 1.5 * 1300  # 1300 weights, two bytes less each, and four casts more
    assert Simulated(half).run(frame) == pytest.approx(Simulated(model).run(frame), rel=0.02, abs=0.05)
