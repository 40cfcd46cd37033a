"""From a saved .mlpackage to a plain list of operations, with the weights that they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from runtime.errors import UserError

ROOT = "Data"
SENTINEL = 0xDEADBEEF  # MILBlob's mark before every entry of a weight file

FLOATS: Mapping[str, Any] = {"FLOAT16": np.float16, "FLOAT32": np.float32, "FLOAT64": np.float64}
INTEGERS: Mapping[str, Any] = {
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64, "BOOL": np.bool_,
}
PACKED: Mapping[str, tuple[int, bool]] = {
    "INT4": (4, True), "UINT4": (4, False), "UINT1": (1, False), "UINT2": (2, False), "UINT3": (3, False),
    "UINT6": (6, False),
}
"""Types narrower than a byte: bits, and whether they are signed."""


@dataclass(frozen=True)
class TensorType:
    """What the program declares: MIL's name of the dtype, and the shape (None where it is flexible)."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        kind: MIL's name of it, e.g. "conv".
        arguments: parameter → names of earlier results (str), or values in place (torch.Tensor, Text).
        outputs: the results' names and declared types.
    """

    kind: str
    arguments: Mapping[str, tuple[Any, ...]]
    outputs: tuple[tuple[str, TensorType], ...]


@dataclass(frozen=True)
class Text:
    """A string constant, as opposed to a name."""

    value: str


@dataclass(frozen=True)
class MilProgram:
    """A package's main function.

    Attributes:
        inputs: name → declared type, in order.
        outputs: names of the results.
        operations: in an order in which each can be carried out.
        opset: e.g. "CoreML7" (iOS17).
        description: the package's protobuf, for its metadata and its image inputs.
    """

    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    opset: str
    description: Any


def unknown(what: str) -> UserError:
    """The error for something that an ML program may hold and this evaluator cannot compute."""
    return UserError(f"{what} is not implemented in the reference evaluator, so the package cannot be verified",
                     try_="python -m export.onnx NAME; or add it to export/coreml/reference/, with a test")


def read_package(package: Path) -> MilProgram:
    """Read the program and all weights.

    Args:
        package: the .mlpackage folder.

    Raises:
        UserError: a file is missing or damaged, the model is no ML program, or it uses a type unknown here.
    """
    try:
        from coremltools.proto import Model_pb2
    except ImportError as error:
        from runtime.errors import MissingLibrary

        raise MissingLibrary("coremltools", "reading an .mlpackage", "export") from error
    try:
        manifest = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        model = Model_pb2.Model.FromString((package / ROOT / entry["path"]).read_bytes())
    except Exception as error:  # protobuf's DecodeError derives from Exception directly
        raise UserError(f"{package} is not a readable .mlpackage ({type(error).__name__}: {error})",
                        try_="python -m export.coreml NAME, which writes one") from error
    if model.WhichOneof("Type") != "mlProgram":
        raise UserError(f"{package} holds a {model.WhichOneof('Type')}; expected an ML program (iOS 15 or later)")
    function = model.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    reader = _Reader(package / ROOT / Path(entry["path"]).parent)
    operations = tuple(reader.operation(op) for op in block.operations)
    inputs = {value.name: reader.tensor_type(value.type) for value in function.inputs}
    return MilProgram(inputs, tuple(block.outputs), operations, function.opset, model)


class _Reader:
    """Protobuf messages to values. `folder` is what the weight files' "@model_path" stands for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def operation(self, op: Any) -> Operation:
        """A MIL_pb2.Operation, its constant arguments as arrays, the others by their names."""
        arguments = {key: tuple(self._binding(b) for b in argument.arguments) for key, argument in op.inputs.items()}
        arguments |= {key: (self.value(value),) for key, value in op.attributes.items() if key != "name"}
        return Operation(op.type, arguments, tuple((out.name, self.tensor_type(out.type)) for out in op.outputs))

    def _binding(self, binding: Any) -> Any:
        return binding.name if binding.WhichOneof("binding") == "name" else self.value(binding.value)

    def tensor_type(self, declared: Any) -> TensorType:
        """A MIL_pb2.ValueType of a tensor; None for a size that is left open."""
        from coremltools.proto import MIL_pb2

        tensor = declared.tensorType
        shape = tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions)
        return TensorType(MIL_pb2.DataType.Name(tensor.dataType), shape)

    def value(self, value: Any) -> Any:
        """A torch.Tensor as `carrier` makes it, or Text."""
        kind = self.tensor_type(value.type)
        if value.WhichOneof("value") == "blobFileValue":
            raw = self._blob(value.blobFileValue.fileName, int(value.blobFileValue.offset))
            return carrier(elements(raw, kind))
        tensor = value.immediateValue.tensor
        field = tensor.WhichOneof("value")
        if field == "strings":
            return Text(tensor.strings.values[0])
        if field is None:  # an empty list of axes, for one
            return carrier(np.zeros(_sizes(kind), dtype=_numpy(kind.dtype)))
        stored = getattr(tensor, field).values
        if field == "bytes":
            return carrier(elements(np.frombuffer(stored, np.uint8), kind))
        return carrier(np.array(stored, dtype=_numpy(kind.dtype)).reshape(_sizes(kind)))

    def _blob(self, name: str, offset: int) -> npt.NDArray[np.uint8]:
        path = self._folder / name.removeprefix("@model_path/")
        if name not in self._files:
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise UserError(f"the package names {name!r} as its weights; expected a file inside it")
            if not path.is_file():
                raise UserError(f"{path} is missing; the package names it as its weights", try_="export it again")
            self._files[name] = np.memmap(path, dtype=np.uint8, mode="r")
        file = self._files[name]
        head = bytes(file[offset:offset + 24])
        sentinel, size, start = (int.from_bytes(head[a:b], "little") for a, b in ((0, 4), (8, 16), (16, 24)))
        if sentinel != SENTINEL or start + size > len(file):
            raise UserError(f"{path} has no weight entry at byte {offset}: the file was changed or cut short",
                            try_="export it again")
        return file[start:start + size]


def _numpy(dtype: str) -> Any:
    known = {**FLOATS, **INTEGERS, **{name: np.int8 if signed else np.uint8 for name, (_, signed) in PACKED.items()}}
    if dtype not in known:
        raise unknown(f"the type {dtype}")
    return known[dtype]


def _sizes(kind: TensorType) -> tuple[int, ...]:
    return tuple(0 if size is None else size for size in kind.shape)


def elements(raw: npt.NDArray[np.uint8], kind: TensorType) -> npt.NDArray[Any]:
    """Stored bytes (little-endian) → an array of the declared shape; packed types are spread over bytes."""
    shape = _sizes(kind)
    if kind.dtype not in PACKED:
        return np.frombuffer(raw.tobytes(), _numpy(kind.dtype)).reshape(shape)
    bits, signed = PACKED[kind.dtype]
    values = unpack(raw, bits, int(np.prod(shape)))
    if signed:
        values = np.where(values >= 1 << (bits - 1), values.astype(np.int16) - (1 << bits), values).astype(np.int8)
    return values.reshape(shape)


def unpack(raw: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """Spread `count` unsigned numbers of `bits` bits over bytes; the stream starts at each byte's lowest bit."""
    stream = np.unpackbits(raw, bitorder="little")[:bits * count].reshape(count, bits)
    return np.packbits(stream, axis=1, bitorder="little")[:, 0]


def carrier(array: npt.NDArray[Any]) -> torch.Tensor:
    """The tensor in which a value travels: float32 for floats, int64 for integers, bool as it is.

    float16 values keep their value exactly; the evaluator rounds results back to what the program declares.
    """
    if array.dtype == np.bool_:
        return torch.from_numpy(array.copy())
    if np.issubdtype(array.dtype, np.floating):
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array.astype(np.int64))
