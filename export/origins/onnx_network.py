"""An existing ONNX file as a network: run by ONNX Runtime for reference, and exported with our input and output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from export.quiet import reason
from export.spec import ModelSpec
from runtime.artifact import OutputKind
from runtime.errors import UserError
from runtime.sessions.onnx import library

OPSETS = (13, 18)
"""Operator sets that are taken; older ones are converted, newer ones refused (GridSample 20 is wrong in TensorRT)."""

Step = tuple[str, list[str], dict[str, Any]]
"""(operator, inputs after the first one, attributes)."""


class OnnxNetwork(nn.Module):
    """Float NCHW → float NCHW logits, as the file computes them.

    The file's larger weights are buffers. Like every network that is built it starts with other weights than the
    file's (each of them turned round), which makes it a control for verification; `load_state_dict` with `weights_of`
    gives it the file's own.

    Raises:
        UserError: the file cannot be read, or has more than one input or output.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._model = read(path)
        for index, weight in enumerate(_weights(self._model)):
            values = numpy_helper.to_array(weight)
            self.register_buffer(f"weight{index}", torch.from_numpy(values.ravel()[::-1].reshape(values.shape).copy()))
        self._session: Any = None
        self.register_load_state_dict_post_hook(_forget_session)  # type: ignore[no-untyped-call]

    @property
    def model(self) -> onnx.ModelProto:
        """The file's graph with the weights that this network has now."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for weight, values in zip(_weights(model), self.buffers()):
            weight.CopyFrom(numpy_helper.from_array(values.numpy(), weight.name))
        return model

    def __getstate__(self) -> dict[str, Any]:
        """For a copy, which makes a session of its own."""
        return {**self.__dict__, "_session": None}

    def forward(self, x: Tensor) -> Tensor:
        """Float [1, 3, H, W] → what the file's output holds, through ONNX Runtime."""
        tracer: Any = torch.jit  # which has no types
        if torch.compiler.is_compiling() or tracer.is_tracing():
            raise UserError(f"{self.path} is an ONNX file, and this target converts torch networks",
                            try_="package.module:builder --spec FILE.toml")
        if self._session is None:
            self._session = library().InferenceSession(self.model.SerializeToString(),
                                                       providers=["CPUExecutionProvider"])
        name = self._session.get_inputs()[0].name
        try:
            return torch.from_numpy(self._session.run(None, {name: x.numpy()})[0])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise UserError(f"{self.path} does not take a float32 input {tuple(x.shape)} ({error})") from error


def _forget_session(network: nn.Module, keys: Any) -> None:
    """The next frame needs a session with the weights that were loaded."""
    network._session = None  # type: ignore[assignment]


def _weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The weights that tell one network from another: float32, of two or more dimensions."""
    return [w for w in model.graph.initializer if len(w.dims) >= 2 and w.data_type == TensorProto.FLOAT]


def weights_of(path: Path) -> dict[str, Tensor]:
    """The state dict of an `OnnxNetwork` as the file has it."""
    return {f"weight{index}": torch.from_numpy(numpy_helper.to_array(weight).copy())
            for index, weight in enumerate(_weights(read(path)))}


def read(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file, converted to an operator set between `OPSETS`."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no base but this
        raise UserError(f"{path} cannot be read ({reason(error)}); expected a valid ONNX file") from error
    weights = {w.name for w in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs and {len(model.graph.output)} outputs; expected one image "
                        "and one tensor of logits")
    version = next(o.version for o in model.opset_import if o.domain in {"", "ai.onnx"})
    if version > OPSETS[1]:
        raise UserError(f"{path} uses operator set {version}; expected at most {OPSETS[1]}",
                        try_=f"export it again with opset_version={OPSETS[1]}")
    if version < OPSETS[0]:
        from onnx import version_converter

        model = version_converter.convert_version(model, OPSETS[1])
    return model


def onnx_from_onnx(network: OnnxNetwork, entry: ModelSpec, output: OutputKind) -> onnx.ModelProto:
    """Put our input before the file's graph and our output behind it.

    Args:
        network: the file.
        entry: its spec, with the input size that is wanted.
        output: what the graph is to return.

    Returns:
        uint8 NHWC BGR "frame" → `output`, as `export.wrapper.Deployable` defines it.
    """
    model = network.model
    graph = model.graph
    weights = {w.name for w in graph.initializer}
    image = next(i for i in graph.input if i.name not in weights)
    logits = graph.output[0]
    before = _before(entry, image.name, graph)
    after = _after(entry, logits.name, output, graph)
    nodes = [*before, *graph.node, *after]
    height, width = entry.preprocess.size
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("input")
    graph.input.append(helper.make_tensor_value_info("frame", TensorProto.UINT8, (1, height, width, 3)))
    graph.ClearField("value_info")
    graph.ClearField("output")
    kind = TensorProto.UINT8 if output is OutputKind.CLASSES else TensorProto.FLOAT
    graph.output.append(helper.make_tensor_value_info(output.value, kind, None))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    onnx.checker.check_model(inferred)
    return inferred


def _constant(graph: onnx.GraphProto, name: str, values: Any) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), f"edgeseg_{name}"))
    return f"edgeseg_{name}"


def _before(entry: ModelSpec, image: str, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """uint8 NHWC BGR "frame" → the normalised float NCHW tensor that the file takes."""
    rgb = entry.preprocess.colour_order == "rgb"
    mean = np.float32(255) * np.asarray(entry.preprocess.mean, np.float32)
    scale = np.float32(1 / 255) / np.asarray(entry.preprocess.std, np.float32)
    steps: list[Step] = [("Transpose", [], {"perm": [0, 3, 1, 2]}), ("Cast", [], {"to": TensorProto.FLOAT})]
    if rgb:
        steps.append(("Gather", [_constant(graph, "rgb", np.array([2, 1, 0], np.int64))], {"axis": 1}))
    steps += [("Sub", [_constant(graph, "mean", mean.reshape(1, 3, 1, 1))], {}),
              ("Mul", [_constant(graph, "scale", scale.reshape(1, 3, 1, 1))], {})]
    return _chain("frame", image, "before", steps)


def _after(entry: ModelSpec, logits: str, output: OutputKind, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The file's float NCHW logits → what `output` says."""
    if output is OutputKind.LOW:
        return _chain(logits, output.value, "after", [("Transpose", [], {"perm": [0, 2, 3, 1]})])
    sizes = np.array([1, len(entry.classes.names), *entry.preprocess.size], np.int64)
    mode = "align_corners" if entry.align_corners else "half_pixel"
    steps: list[Step] = [
        ("Resize", ["", "", _constant(graph, "sizes", sizes)],
         {"mode": "linear", "coordinate_transformation_mode": mode})]
    if output is OutputKind.CLASSES:
        steps += [("ArgMax", [], {"axis": 1, "keepdims": 0}), ("Cast", [], {"to": TensorProto.UINT8})]
    return _chain(logits, output.value, "after", steps)


def _chain(first: str, last: str, prefix: str, steps: list[Step]) -> list[onnx.NodeProto]:
    """Nodes one after the other, from the tensor `first` to the tensor `last`."""
    names = [first, *(f"edgeseg_{prefix}_{i}" for i in range(len(steps) - 1)), last]
    return [helper.make_node(kind, [names[i], *more], [names[i + 1]], name=f"edgeseg_{prefix}_{kind}_{i}", **attributes)
            for i, (kind, more, attributes) in enumerate(steps)]
