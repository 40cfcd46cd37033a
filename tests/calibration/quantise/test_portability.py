"""The same file in every engine: ONNX Runtime fuses it, OpenVINO runs INT8 convolutions, TensorRT-RTX builds it."""

import os
from collections import Counter

import onnx
import pytest

from calibration.judge.lint import lint
from calibration.judge.verdict import fusion
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, all_nodes, int8_from_float
from calibration.quantise.thresholds import Range
from calibration.source import load_onnx
from tests import tiny


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    graph = FloatGraph(load_onnx(tiny.artifact(folder)))
    model = int8_from_float(graph, dict.fromkeys(graph.float_tensors, Range(-4.0, 4.0)), Plan(all_nodes(graph)))
    assert lint(model) == []
    onnx.save(model, folder / "int8.onnx")
    return folder / "int8.onnx"


def test_onnx_runtime_fuses_convolutions_into_integer_kernels(path):
    found = fusion(path)
    assert found.convolutions == 4
    assert found.float_convolutions <= 1  # the classifier, whose logits stay float, where a kernel needs INT8 outputs


def test_openvino_runs_every_convolution_but_the_first_in_int8(path):
    openvino = pytest.importorskip("openvino")
    operations = openvino.Core().compile_model(os.fspath(path), "CPU").get_runtime_model().get_ops()

    def text(operation, key):
        value = operation.get_rt_info()[key]
        return str(getattr(value, "value", value))

    precisions = Counter(text(operation, "runtimePrecision") for operation in operations
                         if text(operation, "layerType") == "Convolution")
    assert precisions.pop("f32") == 1
    assert set(precisions) <= {"i8", "u8"}
    assert sum(precisions.values()) == 3


def test_tensorrt_rtx_builds_it_without_a_gpu(path):
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(os.fspath(path)), parser.get_error(0)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 1000
