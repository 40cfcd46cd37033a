"""Forms of an INT8 graph: how its integers stand, and where an engine wants them rounded.

Each engine states the one that it computes best beside its session; calibration writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Integers = Literal["", "signed", "unsigned"]

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})

INTEGER_OPS = WEIGHTED | {"Add", "Mul", "Concat", "Resize", "GlobalAveragePool", "AveragePool", "MaxPool"}
"""ONNX operators for which engines have integer kernels. Others may stand between quantised tensors, in float."""


@dataclass(frozen=True)
class Form:
    """How pairs of QuantizeLinear and DequantizeLinear are set.

    Attributes:
        integers: "signed" for symmetric int8 activations, or "unsigned" where uint8 ones occur. An engine that reads
            one as the other computes nonsense, so that the artifact has this word.
        zero_points: of an unsigned form: "always" for uint8 around a zero-point wherever an activation has both signs,
            "never" for symmetric int8 there, "unless slower" for "never" where the engine is faster so on the machine
            at hand.
        operators: ONNX operators that become integers.
        outputs: whether what an integer operator writes is rounded even where only float operators read it. Without
            that, an activation function right behind a convolution sees the sums as they are.
        channels: whether what a depthwise convolution reads has a scale for each channel. It adds up no two of them, so
            that the scales can be taken out of its sums; an engine that does not do that computes it in float.
        first: whether the convolution that reads the frame, and a depthwise one right behind it, are integers. Three
            channels fill no vector of bytes, and one scale for all channels of the second costs LR-ASPP more than all
            other layers together.
        tables: whether hard-swish, hard-sigmoid and the ReLU of a sum are written as what an engine without integers
            for them computes on bytes all the same, by a table or a limit.
        vector: channels that a depthwise convolution takes at once. Others are padded with zeros to a multiple; where
            they cannot be, they stay in float, and so do groups of more channels. 1 where none of this matters.
        optional: further operators that become integers where the engine is faster for it on the machine at hand.
    """

    integers: Integers
    operators: frozenset[str]
    outputs: bool
    channels: bool = False
    zero_points: Literal["always", "unless slower", "never"] = "always"
    first: bool = True
    tables: bool = False
    vector: int = 1
    optional: frozenset[str] = frozenset()

    def is_unsigned(self, lowest: float) -> bool:
        """Whether an activation whose least value is `lowest` becomes uint8."""
        return self.integers == "unsigned" and (self.zero_points != "never" or lowest >= 0)


PORTABLE = Form("signed", INTEGER_OPS - {"Concat"}, outputs=True, first=False)
"""What every engine reads: TensorRT and Core ML have no zero-points, and ONNX Runtime fuses nothing whose output is
float. OpenVINO keeps 92 % of DFANet's pixels where joins are signed integers, and 99 % where they are not; ONNX Runtime
the same in either, in the same time."""
