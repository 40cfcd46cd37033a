"""One contract for every network and TensorRT-RTX: it builds on a machine without a GPU, in float32 and float16.

The plan's size, the build's time and the peak of its activations are printed (`pytest -s`); nothing is executed.
"""

from __future__ import annotations

import pytest

from export.onnx.exporter import onnx_from_torch
from export.onnx.fp16 import float16_from_float32
from export.onnx.fp16_ranges import with_names
from export.onnx.graph import global_pool_from_reduce_mean, without_names_of_the_build
from export.onnx.simplify import simplified
from export.origins import find, names
from export.request import request
from export.trt.builders import Settings, build_plan
from export.trt.graph import check_for_tensorrt, ready_for_tensorrt
from export.trt.library import choose
from runtime.artifact import OutputKind

pytest.importorskip("tensorrt_rtx", reason="pip install 'edgeseg[trt]'")


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_network_builds_without_a_gpu_in_float32_and_in_float16(name):
    entry = find(name).spec
    unit = max(entry.multiple, entry.stride)
    extra = 1 if entry.align_corners and entry.multiple == 1 else 0
    wanted = request(name, weights="none", size=(64 // unit * unit + extra, 96 // unit * unit + extra),
                     output=OutputKind.CLASSES)
    model = without_names_of_the_build(global_pool_from_reduce_mean(simplified(onnx_from_torch(wanted))))
    library = choose("rtx", (), "not asked for")
    found = {}
    for precision, graph in (("fp32", model), ("fp16", float16_from_float32(with_names(model)))):
        ready = ready_for_tensorrt(graph)
        check_for_tensorrt(ready)
        plan = found[precision] = build_plan(library, ready.SerializeToString(), Settings(name))
        height, width = wanted.spec.preprocess.size
        assert plan.inputs == [("frame", (1, height, width, 3), "uint8")]
        assert plan.outputs == [("classes", (1, height, width), "uint8")]
        print(f"{name} {height}x{width} {precision}: {plan.seconds:.1f} s, {len(plan.data) / 1e6:.1f} MB, "
              f"{(plan.activation_bytes or 0) / 1e6:.1f} MB of activations")
    assert any(layer.precision == "HALF" for layer in found["fp16"].layers)
    assert not any(layer.precision == "HALF" for layer in found["fp32"].layers)
    if entry.parameters > 1e6:  # of fewer, a plan is mostly kernels, and those for float16 are not the smaller ones
        assert len(found["fp16"].data) < len(found["fp32"].data)
