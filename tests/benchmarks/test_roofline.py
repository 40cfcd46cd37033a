"""Where kernels come from and what is said about them; never how fast this machine is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from benchmarks import ceilings, roofline
from benchmarks.ceilings import Ceilings, measured_ceilings
from benchmarks.counting import CountedLayer
from benchmarks.graph_cost import cost_of_graph
from benchmarks.kernels import Kernel, kernels_from_events
from benchmarks.measurement import Measurement, read
from calibration.data.frames import drawn_frame
from runtime.sessions.onnx import profile

ROOF = Ceilings(gflops=100, gbytes=10, threads=2)


@pytest.fixture(scope="module")
def row(engine: Path) -> Measurement:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "SIDE", 16)
        patch.setattr(ceilings, "COPIED_MB", 1)
        patch.setattr(ceilings, "SECONDS", 0)
        return roofline.measure(engine, threads=2, runs=4)


def test_kernels_of_a_real_run_add_up_to_the_graphs_own_count(engine: Path) -> None:
    cost = cost_of_graph(onnx.load(engine))
    kernels = kernels_from_events(profile(engine, drawn_frame((32, 48), 0)[None], 1, 4), cost.layers)
    assert sum(kernel.flops for kernel in kernels) == cost.flops
    assert not any(kernel.by_shape for kernel in kernels)


def test_row_keeps_ceilings_layers_and_words(row: Measurement) -> None:
    assert row.kind == "layers"
    assert row.values["attributed_share"] == 1
    assert row.values["ridge"] == pytest.approx(row.values["peak_gflops"] / row.values["peak_gbytes"])
    assert {"name", "kind", "ms", "flops", "bytes"} <= set(row.details["layers"][0])
    assert row.details["words"][0].startswith("tiny runs at ")


def test_the_ridge_is_where_arithmetic_and_memory_limit_alike() -> None:
    assert ROOF.ridge == 10


def event(name: str, op: str, inputs: list[list[int]], output: list[int], us: int) -> dict[str, object]:
    return {"name": f"{name}_kernel_time", "dur": us, "args": {
        "op_name": op, "input_type_shape": [{"float": shape} for shape in inputs],
        "output_type_shape": [{"float": output}]}}


def layer(name: str, op: str, inputs: tuple[str, ...], output: str, macs: int) -> CountedLayer:
    return CountedLayer(name, op, inputs, output, (1,), 0, macs, 0, 4, 0)


@pytest.mark.parametrize("name", ["relu_1_nchwc", "InsertedPrecisionFreeCast_relu_1_nchwc"])
def test_kernel_that_absorbed_an_activation_is_led_back_to_its_convolution_and_padding_is_no_work(name: str) -> None:
    layers = (layer("conv", "Conv", ("x",), "c", 72), layer("act", "Relu", ("c",), "relu_1", 0))
    kernel, = kernels_from_events([event(name, "Conv", [[1, 8, 1, 1], [16, 8, 1, 1]], [1, 16, 1, 1], 2)],
                                  layers)
    assert kernel.flops == 144  # 2 x 72, although the padded kernel multiplies 128 times
    assert not kernel.by_shape
    assert kernel.kind == "1x1"
    assert kernel.bytes == 4 * (8 + 128 + 16)


def test_two_kernels_never_claim_the_same_layer() -> None:
    layers = (layer("a", "Conv", ("x",), "a_out", 10), layer("b", "Conv", ("x",), "b_out", 20),
              layer("sum", "Add", ("a_out", "b_out"), "sum_out", 0))
    shapes: tuple[list[list[int]], list[int]] = [[1, 1, 1, 1], [1, 1, 1, 1]], [1, 1, 1, 1]
    found = kernels_from_events([event("a_out", "Conv", *shapes, 1), event("sum_out", "Conv", *shapes, 1)], layers)
    assert [kernel.flops for kernel in found] == [20, 40]


def test_kernel_that_cannot_be_led_back_is_counted_by_its_shapes_and_marked() -> None:
    kernel, = kernels_from_events([event("unheard of", "Conv", [[1, 4, 5, 5], [6, 4, 3, 3]], [1, 6, 5, 5], 3)], ())
    assert kernel.by_shape
    assert kernel.flops == 2 * 6 * 25 * 36
    assert kernel.kind == "KxK"


def test_words_name_what_holds_each_kind_of_layer_back() -> None:
    # 1 ms at 2 FLOP/B is left of the ridge at 10; 3 ms at 40 FLOP/B is right of it
    kernels = [Kernel("d", "Conv", "depthwise", 1.0, 10_000_000, 5_000_000, (1,), False),
               Kernel("p", "Conv", "1x1", 3.0, 240_000_000, 6_000_000, (1,), False)]
    first, pointwise, depthwise = roofline.words("net", kernels, ROOF, plain_ms=5.0, flops=250_000_000)
    assert first == "net runs at 50 % of this processor's peak: 50 of 100 GFLOP/s on 2 threads."
    assert "75 % of the time and are compute-bound: 40.0 FLOP per byte" in pointwise
    assert "80 % of the peak" in pointwise
    assert "25 % of the time and are memory-bound: 2.0 FLOP per byte" in depthwise
    assert "50 % of a memory copy's speed" in depthwise


def test_ceilings_are_of_the_work_that_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "_best", lambda action: 0.5)
    found = measured_ceilings(1)
    assert found.gflops == pytest.approx(2 * 1024**3 / 0.5e9)
    assert found.gbytes == pytest.approx(2 * 0.256 / 0.5)


def test_command_prints_the_words_and_keeps_the_row(row: Measurement, engine: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(roofline, "measure", lambda path, threads: row)
    assert roofline.main([str(engine), "--rows", str(tmp_path / "rows.jsonl")]) == 0
    assert "% of this processor's peak" in capsys.readouterr().out
    assert read(tmp_path / "rows.jsonl")[0].kind == "layers"
