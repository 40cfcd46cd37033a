"""A 1x1 convolution that makes fewer channels goes before the interpolation that it reads, where there are fewer cells.

Both are linear, one over channels and the other over cells, and the weights of an interpolation sum up to 1: so
conv(up(x)) = up(conv(x)), bias included, and conv(a + up(x)) = conv(a) + up(conv(x) without bias). Classifiers read
such sums: a decoder interpolates 64 or 128 channels so that 11 can be made of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from calibration.quantise.rewrite import drop_unused


def pointwise_before_interpolation(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move every such convolution; the results differ by rounding alone.

    Args:
        model: copied, not changed.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = _Surroundings(result)
    nodes = list[onnx.NodeProto]()
    for node in result.graph.node:
        nodes += graph.moved(node) if graph.narrows(node) else [node]
    if graph.replaced:
        kept = [node for node in nodes if node.output[0] not in graph.replaced]
        del result.graph.node[:], result.graph.value_info[:]
        result.graph.node.extend(kept)
        drop_unused(result.graph)
    return result


class _Surroundings:
    """What must be known around a convolution.

    Attributes:
        replaced: outputs of interpolations and additions that nothing reads any more.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.replaced: set[str] = set()
        self._graph = model.graph
        self._constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._made_by = {name: node for node in self._graph.node for name in node.output}
        self._uses = Counter([*(name for node in self._graph.node for name in node.input),
                              *(value.name for value in self._graph.output)])
        shapes = onnx.shape_inference.infer_shapes(model).graph
        self._shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
                        for value in (*shapes.value_info, *shapes.input, *shapes.output)}

    def narrows(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a 1x1 convolution with fewer results than inputs, of a sum that holds interpolations."""
        if node.op_type != "Conv" or any(name not in self._constants for name in node.input[1:] if name):
            return False
        attributes = {a.name: list(a.ints) or a.i for a in node.attribute}
        weight = self._constants[node.input[1]].dims
        plain = (set(attributes.get("strides", [1])) == {1} and not any(attributes.get("pads", [0]))
                 and attributes.get("group", 1) == 1 and not attributes.get("auto_pad"))
        return (plain and list(weight[2:]) == [1, 1] and weight[0] < weight[1]
                and any(self._enlarges(leaf) for leaf in self._leaves(node.input[0])))

    def _leaves(self, name: str) -> Iterator[str]:
        """The maps of which a tensor is the sum, itself if it is none; all have its shape."""
        node = self._made_by.get(name)
        if (node is not None and node.op_type == "Add" and self._uses[name] == 1
                and all(self._shapes.get(part) == self._shapes.get(name) for part in node.input)):
            for part in node.input:
                yield from self._leaves(part)
        else:
            yield name

    def _enlarges(self, name: str) -> bool:
        """Whether a tensor is a linear interpolation to more cells, read once."""
        node = self._made_by.get(name)
        if node is None or node.op_type != "Resize" or self._uses[name] != 1:
            return False
        named = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        before, after = self._shapes.get(node.input[0], ()), self._shapes.get(name, ())
        return (named.get("mode") == b"linear" and named.get("coordinate_transformation_mode") != b"tf_crop_and_resize"
                and not named.get("antialias") and not named.get("axes") and len(before) == len(after) == 4
                and 0 not in (*before, *after) and before[:2] == after[:2]
                and before[2] <= after[2] and before[3] <= after[3])

    def moved(self, conv: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What computes the same as a convolution that `narrows`, in the order of computation."""
        leaves = list(self._leaves(conv.input[0]))
        enlarged = [leaf for leaf in leaves if self._enlarges(leaf)]
        rest = [leaf for leaf in leaves if leaf not in enlarged]
        self._replace(conv.input[0], leaves)
        nodes, terms = list[onnx.NodeProto](), list[str]()
        if rest:
            terms.append(self._convolved(nodes, conv, _summed(nodes, rest, f"{conv.output[0]}_of"), 0))
        for leaf in enlarged:
            resize = self._made_by[leaf]
            small = self._convolved(nodes, conv, resize.input[0], len(terms))
            terms.append(self._resized(nodes, resize, small, self._constants[conv.input[1]].dims[0]))
        _summed(nodes, terms, f"{conv.output[0]}_from")
        nodes[-1].output[0] = conv.output[0]
        return nodes

    def _replace(self, name: str, leaves: Sequence[str]) -> None:
        """Note that nothing reads a sum any more, nor the interpolations in it."""
        if name in leaves:
            self.replaced |= {name} if self._enlarges(name) else set()
        else:
            self.replaced.add(name)
            for part in self._made_by[name].input:
                self._replace(part, leaves)

    def _convolved(self, nodes: list[onnx.NodeProto], conv: onnx.NodeProto, x: str, number: int) -> str:
        """One term of a convolution; the first has its bias, the others weights of their own, as some steps after this
        one change weights for one reader."""
        node = onnx.NodeProto()
        node.CopyFrom(conv)
        node.name, node.input[0], node.output[0] = f"{conv.name}_{number}", x, f"{conv.output[0]}_{number}"
        if number:
            weight = numpy_helper.to_array(self._constants[conv.input[1]])
            node.input[1] = f"{conv.input[1].removesuffix('.weight')}.{number}.weight"
            del node.input[2:]
            self._graph.initializer.append(numpy_helper.from_array(weight, node.input[1]))
        nodes.append(node)
        return str(node.output[0])

    def _resized(self, nodes: list[onnx.NodeProto], resize: onnx.NodeProto, x: str, channels: int) -> str:
        """An interpolation of fewer channels."""
        node = onnx.NodeProto()
        node.CopyFrom(resize)
        node.input[0], node.output[0] = x, f"{x}_enlarged"
        if len(node.input) > 3 and node.input[3]:
            node.input[3] = f"{x}_size"
            size = np.array([1, channels, *self._shapes[resize.output[0]][2:]])
            self._graph.initializer.append(numpy_helper.from_array(size, node.input[3]))
        nodes.append(node)
        return str(node.output[0])


def _summed(nodes: list[onnx.NodeProto], names: Sequence[str], stem: str) -> str:
    """The sum of maps of one shape; a single one is its own."""
    total = names[0]
    for number, name in enumerate(names[1:]):
        nodes.append(helper.make_node("Add", [total, name], [f"{stem}_{number}"], name=f"{stem}_{number}"))
        total = nodes[-1].output[0]
    return total
