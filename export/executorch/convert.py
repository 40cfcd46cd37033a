"""torch → .pte through ExecuTorch's exporter: the network in its wrapper, lowered to XNNPACK where that takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from export.quiet import quiet, refusing
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from export.request import Request
    from runtime.preprocess import Frame


@dataclass(frozen=True)
class Program:
    """A lowered network.

    Attributes:
        contents: of the .pte file.
        delegates: how many pieces of the graph XNNPACK computes; one is best, as tensors are copied between them.
        portable: operators that it leaves to ExecuTorch's portable kernels, one thread each; name → how often.
    """

    contents: bytes
    delegates: int
    portable: dict[str, int]


def program_from_torch(wanted: Request) -> Program:
    """Convert the network in its wrapper: float32 planes [1, 3, H, W] BGR, 0..255 → `wanted.output`, [1, C, h, w].

    A program can begin with bytes, but their way to planes would go through portable kernels, and took a tenth of the
    whole; the session does that in half a millisecond.

    Raises:
        UserError: the exporter does not translate an operator, or the runtime has no kernel for it; the message has its
            name.
    """
    from export.wrapper import traced

    with quiet(), refusing("ExecuTorch's exporter", wanted.spec.name):
        return lowered(traced(wrapped(wanted), planes(wanted)))


def int8_program_from_torch(wanted: Request, frames: Iterable[Frame]) -> Program:
    """The same with integers inside; see `export.executorch.quantise`."""
    from export.executorch.quantise import int8_from_float
    from export.wrapper import traced

    with quiet(), refusing("ExecuTorch's exporter", wanted.spec.name):
        quantised = int8_from_float(traced(wrapped(wanted), planes(wanted)), frames)
        return lowered(traced(quantised, planes(wanted)))


def wrapped(wanted: Request) -> nn.Module:
    """The network in its wrapper, from planes on."""
    from export.wrapper import Deployable, PictureInput

    return PictureInput(Deployable(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners))


def planes(wanted: Request) -> Tensor:
    """A black frame: float32 [1, 3, H, W]."""
    import torch

    return torch.zeros(1, 3, *wanted.spec.preprocess.size)


def lowered(program: ExportedProgram) -> Program:
    """XNNPACK takes what it can; kernels of ExecuTorch's own take the rest.

    Raises:
        UserError: there is no kernel for an operator of the rest.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from runtime.sessions.executorch import library

    made = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    (plan,) = made.executorch_program.execution_plan
    kernels = [f"{operator.name}.{operator.overload}".rstrip(".") for operator in plan.operators]
    if missing := sorted(set(kernels) - set(library()[0]._get_operator_names())):
        raise UserError(f"ExecuTorch has no kernel for {', '.join(missing)}; expected operators that it supports",
                        try_="python -m export.onnx, or a network without them")
    return Program(made.buffer, len(plan.delegates), _counted(plan, kernels))


def _counted(plan: Any, kernels: list[str]) -> dict[str, int]:
    calls = (instruction.instr_args for chain in plan.chains for instruction in chain.instructions)
    return dict(Counter(kernels[call.op_index] for call in calls if hasattr(call, "op_index")).most_common())
