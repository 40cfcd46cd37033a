"""Carrying out a program, one operation after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.coreml.reference import arithmetic, layout, quantised, spatial
from export.coreml.reference.read import INTEGERS, PACKED, MilProgram, Operation, TensorType, Text, unknown
from runtime.errors import UserError

Handler = Callable[[Mapping[str, Any]], Any]
Observer = Callable[[str, torch.Tensor], None]

HANDLERS: Mapping[str, Handler] = {**arithmetic.HANDLERS, **layout.HANDLERS, **quantised.HANDLERS, **spatial.HANDLERS}
"""MIL's name of an operation → what it does. A handler takes the parameters by MIL's names and returns its result."""

VARIADIC = "values"  # the one parameter that is a list even when it holds a single tensor (concat, stack)


class Evaluator:
    """A program with its constants worked out once.

    Raises:
        UserError: the program uses operations that are unknown here; all of them are named.
    """

    def __init__(self, program: MilProgram) -> None:
        strange = sorted({op.kind for op in program.operations} - HANDLERS.keys())
        if strange:
            raise unknown(f"the operation {', '.join(strange)}")
        self.program = program
        self._constants: dict[str, torch.Tensor | str] = {}
        self._steps: list[tuple[Operation, tuple[str, ...]]] = []
        variable = list(self._fold())
        last = {name: index for index, op in enumerate(variable) for name in _names(op)}
        for index, op in enumerate(variable):
            finished = tuple(name for name, use in last.items()
                             if use == index and name not in self._constants and name not in program.outputs)
            self._steps.append((op, finished))

    def _fold(self) -> list[Operation]:
        """Carry out what depends on constants only; return the rest."""
        variable = []
        for op in self.program.operations:
            if all(name in self._constants for name in _names(op)):
                self._constants.update(_carry_out(op, self._constants))
            else:
                variable.append(op)
        return variable

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]],
                 observe: Observer | None = None) -> dict[str, npt.NDArray[Any]]:
        """Run once.

        Args:
            inputs: by name, in the declared shapes; an image input is float [1, 3, H, W] in 0..255, channels in the
                order that the package declares.
            observe: called with the name and value of every input and of every result that depends on one, in order.

        Returns:
            The outputs by name: float32 for floats (already rounded where they are declared float16), int32 for
            integers.

        Raises:
            UserError: an input is missing, unknown or has another shape.
        """
        values: dict[str, Any] = dict(self._constants)
        values.update(self._inputs(inputs))
        if observe:
            for name in self.program.inputs:
                observe(name, values[name])
        for op, finished in self._steps:
            results = _carry_out(op, values)
            values.update(results)
            for name in results if observe else ():
                assert observe is not None
                observe(name, results[name])
            for name in finished:
                del values[name]
        return {name: _to_numpy(values[name]) for name in self.program.outputs}

    def _inputs(self, given: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
        declared = self.program.inputs
        if given.keys() != declared.keys():
            raise UserError(f"inputs {sorted(given)} were given; the program takes {sorted(declared)}")
        settled = {}
        for name, kind in declared.items():
            shape = given[name].shape
            if not _fits(shape, kind):
                raise UserError(f"input {name!r} has shape {shape}; the program takes {kind.shape}")
            settled[name] = _settle(torch.from_numpy(np.array(given[name])), kind, name)
        return settled


def _names(op: Operation) -> list[str]:
    return [value for argument in op.arguments.values() for value in argument if isinstance(value, str)]


def _carry_out(op: Operation, values: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve the arguments, call the handler, and hold its results against what the program declares."""
    def resolve(value: Any) -> Any:
        if isinstance(value, Text):
            return value.value
        return values[value] if isinstance(value, str) else value

    arguments = {key: tuple(resolve(v) for v in argument) if key == VARIADIC else resolve(argument[0])
                 for key, argument in op.arguments.items()}
    results = HANDLERS[op.kind](arguments)
    results = results if isinstance(results, (tuple, list)) else (results,)
    name = op.outputs[0][0]
    if len(results) != len(op.outputs):
        raise UserError(f"{op.kind} {name!r} gave {len(results)} results; expected {len(op.outputs)}")
    settled = {}
    for result, (name, kind) in zip(results, op.outputs):
        if isinstance(result, torch.Tensor) and not _fits(tuple(result.shape), kind):
            raise UserError(f"{op.kind} {name!r} gave shape {tuple(result.shape)}; expected {kind.shape}")
        settled[name] = _settle(result, kind, name) if isinstance(result, torch.Tensor) else result
    return settled


def _fits(shape: tuple[int, ...], kind: TensorType) -> bool:
    return len(shape) == len(kind.shape) and all(d is None or d == s for s, d in zip(shape, kind.shape))


def _settle(result: torch.Tensor, kind: TensorType, name: str) -> torch.Tensor:
    """Bring a result to its declared type: float16 is rounded to, integers must fit."""
    if kind.dtype == "FLOAT16":
        return result.to(torch.float16).to(torch.float32)
    if kind.dtype in {"FLOAT32", "FLOAT64"}:
        return result.to(torch.float32)
    if kind.dtype == "BOOL":
        return result.to(torch.bool)
    if result.is_floating_point():
        raise UserError(f"{name!r} is declared {kind.dtype}, but its operation gave fractions; expected integers")
    bounds = torch.iinfo(torch.int64)
    if kind.dtype in PACKED:
        bits, signed = PACKED[kind.dtype]
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    elif kind.dtype in INTEGERS and kind.dtype not in {"INT64", "UINT64"}:
        low, high = np.iinfo(INTEGERS[kind.dtype]).min, np.iinfo(INTEGERS[kind.dtype]).max
    else:
        low, high = bounds.min, bounds.max
    result = result.to(torch.int64)
    if result.numel() and (int(result.min()) < low or int(result.max()) > high):
        raise UserError(f"{name!r} is declared {kind.dtype}, but reaches {int(result.min())}..{int(result.max())}; "
                        f"expected {low}..{high}")
    return result


def _to_numpy(value: torch.Tensor) -> npt.NDArray[Any]:
    return value.numpy().astype(np.int32) if value.dtype == torch.int64 else value.numpy()
