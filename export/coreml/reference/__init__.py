"""What a saved .mlpackage computes, on any machine.

Core ML itself runs on Apple's systems only. An `.mlpackage` written on Linux would therefore be sent off unseen: wrong
weights, a lost normalisation or a misread sampling mode would show on the phone at the earliest. This evaluator reads
the package *from disk*, protobuf and weight file, and carries out its program with torch, so that an export is gated by
its outputs like every other target.

It shares no code with coremltools' converter: of that package it uses the protobuf classes alone. Each operation
follows Apple's description of it (coremltools, MIL Ops reference) and has a hand-checked test.

Precision. A tensor that the program declares float16 is rounded to float16 wherever an operation hands it over, and so
are weights. *Inside* an operation the sum is formed in float32: Core ML leaves both the order and the width of
accumulation to the device (the Neural Engine, the GPU and the CPU differ), rounding at the borders is what all of them
share. What is reported here is thus the loss that the program causes, not what one chip adds to it.

    program = read_package(Path("lraspp.mlpackage"))
    outputs = Evaluator(program)({"image": image})
"""

from __future__ import annotations

from export.coreml.reference.evaluate import Evaluator
from export.coreml.reference.read import MilProgram, Operation, TensorType, read_package

__all__ = ["Evaluator", "MilProgram", "Operation", "TensorType", "read_package"]
