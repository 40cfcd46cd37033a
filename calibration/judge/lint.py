"""What in a Q/DQ graph would break, or quietly go slow or wrong, in which engine.

    python -m calibration.judge.lint FILE.onnx
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime import cli
from runtime.errors import GateFailed, UserError

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

OPSET = 18
"""The newest operator set that every engine we feed takes."""

_PAIRS = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Finding:
    """Something that is not portable.

    Attributes:
        node: where.
        what: what was found.
        breaks: the engine, and what happens there.
    """

    node: str
    what: str
    breaks: str

    def __str__(self) -> str:
        return f"{self.node}: {self.what}: {self.breaks}"


def lint(model: onnx.ModelProto, integers: str = "signed") -> list[Finding]:
    """Check a Q/DQ graph against what all engines have in common; or those that read unsigned integers.

    Returns:
        The findings, in graph order; empty for a portable graph.

    Raises:
        UserError: the graph has no Q/DQ pairs at all.
    """
    graph = _Graph(model)
    if not any(node.op_type in _PAIRS for node in model.graph.node):
        raise UserError("the model has no QuantizeLinear or DequantizeLinear; expected a quantised model",
                        try_="python -m calibration FILE.onnx --data DIR, which makes one")
    return [finding for rule in _RULES[integers] for finding in rule(graph)]


def integer_types(model: onnx.ModelProto) -> list[Finding]:
    """What TensorRT would refuse or misread of a graph's integers; empty where there are none, or all are right."""
    return list(_integer_types(_Graph(model)))


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.model = model
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producer = {name: node for node in self.nodes for name in node.output}
        self._read = numpy_helper.to_array

    def array(self, name: str) -> npt.NDArray[np.generic]:
        return np.asarray(self._read(self.constants[name]))

    def pairs(self) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type in _PAIRS)

    def weight_pair(self, node: onnx.NodeProto, index: int) -> onnx.NodeProto | None:
        """The DequantizeLinear behind an input, when what it reads is stored."""
        pair = self.producer.get(node.input[index]) if len(node.input) > index else None
        return pair if pair is not None and pair.op_type in _PAIRS and pair.input[0] in self.constants else None


def _opset(graph: _Graph) -> Iterator[Finding]:
    for entry in graph.model.opset_import:
        if entry.domain == "" and entry.version > OPSET:
            yield Finding("model", f"opset {entry.version}", f"TensorRT computes GridSample wrongly from 20 on; "
                          f"expected {OPSET} or less")
        if entry.domain == "com.microsoft":
            yield Finding("model", "operators of com.microsoft", "no engine but ONNX Runtime loads the file")


def _integer_types(graph: _Graph) -> Iterator[Finding]:
    from onnx import TensorProto

    for node in graph.pairs():
        zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
        stored = graph.constants.get(node.input[0])
        if stored is not None and stored.data_type == TensorProto.INT32:
            yield Finding(node.name, "an INT32 tensor (a bias) is dequantised", "TensorRT refuses it; expected float")
        elif (zero is None and node.op_type == "QuantizeLinear") or (
                zero is not None and zero.data_type != TensorProto.INT8):
            kind = TensorProto.DataType.Name(zero.data_type if zero else TensorProto.UINT8).lower()
            yield Finding(node.name, f"{kind} integers", "TensorRT reads uint8 as int8 with a mere warning, so that "
                          "every value above 127 is wrong; expected int8")
        if zero is not None and graph.array(node.input[2]).any():
            yield Finding(node.name, "a zero-point other than 0", "TensorRT refuses it; expected symmetric ranges")


def _weights(graph: _Graph) -> Iterator[Finding]:
    for node in graph.nodes:
        if node.op_type != "Conv" or (pair := graph.weight_pair(node, 1)) is None:
            continue
        integers = graph.array(pair.input[0])
        if integers.shape[1] == 1 and integers.shape[0] > 1 and graph.array(pair.input[1]).size == 1:
            yield Finding(node.name, "one scale for all channels of a depthwise convolution", "accuracy collapses in "
                          "every engine, as such channels differ by orders of magnitude; expected one each")


def _unpaired(graph: _Graph) -> Iterator[Finding]:
    """Quantised weights of a layer whose activations are not (or the reverse) leave the layer in float."""
    for node in graph.nodes:
        if node.op_type != "Conv":
            continue
        weight = graph.weight_pair(node, 1) is not None
        source = graph.producer.get(node.input[0])
        activation = source is not None and source.op_type == "DequantizeLinear"
        if activation and not weight and not _float_island(graph, node):
            yield Finding(node.name, "reads INT8 activations with float weights", "every engine computes it in float "
                          "between two conversions, unless it is kept in float on purpose")


def _frame(graph: _Graph) -> Iterator[Finding]:
    from onnx import TensorProto

    inputs = {value.name for value in graph.model.graph.input
              if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for node in graph.nodes:
        if inputs & set(node.input) and node.op_type != "Cast":
            yield Finding(node.name, "the uint8 frame is read by another operator than Cast", "TensorRT refuses it")


def _float_island(graph: _Graph, node: onnx.NodeProto) -> bool:
    """Whether a layer's weights are float by plan: a layer in INT8 would also have its output quantised."""
    return not any(other.op_type == "QuantizeLinear" and other.input[0] == node.output[0] for other in graph.nodes)


_RULES: dict[str, tuple[Callable[[_Graph], Iterator[Finding]], ...]] = {
    "signed": (_opset, _integer_types, _weights, _unpaired, _frame), "unsigned": (_opset, _weights)}


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m calibration.judge.lint`."""
    parser = cli.parser("calibration.judge.lint", "List what would fail in an INT8 ONNX file, and in which engine.",
                        "python -m calibration.judge.lint out/lraspp-360x480-int8.onnx")
    parser.add_argument("model", type=Path, help="an .onnx file with Q/DQ pairs")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from calibration.source import load_onnx

    findings = lint(load_onnx(args.model))
    for finding in findings:
        print(finding)
    if findings:
        raise GateFailed(f"{args.model}: {len(findings)} findings; the file is not portable")
    print(f"{args.model}: portable (symmetric INT8, float bias, opset ≤ {OPSET})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
