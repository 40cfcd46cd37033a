"""What must agree before a frame is run: an artifact's JSON with itself, and with its engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.artifact import Artifact

RANKS = {"NHWC": 4, "NCHW": 4, "NHW": 3}


class Port(NamedTuple):
    """One tensor as an engine declares it.

    Attributes:
        name: as the engine has it.
        shape: a dimension of 0 is decided by the frame, or not known to the engine; None where it states no shape.
        dtype: as numpy calls it.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: str


def contradictions(artifact: Artifact) -> Iterator[str]:
    """What an artifact's fields, each within its range, say against one another; a line each."""
    count, given, made = len(artifact.classes), artifact.input, artifact.output
    if len(set(artifact.classes)) < count:
        yield f"the {count} class names are not all different"
    if len(artifact.palette) != count:
        yield f"{len(artifact.palette)} colours stand for {count} classes"
    if artifact.integers and artifact.precision != "int8":
        yield f"{artifact.integers} integers stand in a file of {artifact.precision}"
    size = artifact.preprocess.size
    if (given.layout, given.dtype) != ("NHWC", "uint8") or given.shape not in ((1, *size, 3), (1, 0, 0, 3)):
        yield (f"the input is {given.dtype} {given.layout} {list(given.shape)}; expected uint8 NHWC "
               f"{[1, *size, 3]}, or {[1, 0, 0, 3]} where the frame decides")
    yield from _about_output(artifact, made.shape[1:3] if made.layout != "NCHW" else made.shape[2:], count)


def _about_output(artifact: Artifact, sides: tuple[int, ...], count: int) -> Iterator[str]:
    made, kind = artifact.output, artifact.output_kind.value
    made_as = f"the output is {made.dtype} {made.layout} {list(made.shape)}"
    layouts, dtype = (("NHW",), "uint8") if kind == "classes" else (("NHWC", "NCHW"), "float32")
    if made.layout not in layouts or made.dtype != dtype or len(made.shape) != RANKS[made.layout]:
        yield f"{made_as}; expected {dtype} {' or '.join(layouts)} for {kind!r}"
        return
    if made.shape[0] != 1 or (kind != "classes" and made.shape[made.layout.index("C")] != count):
        yield f"{made_as}; expected one frame and {count} classes"
    stride = artifact.stride if kind == "low" else 1
    slack = 1 if kind == "low" else 0  # networks round their strides up or down
    if any(n and abs(n - whole / stride) > slack for n, whole in zip(sides, artifact.preprocess.size)):
        yield f"{made_as}; expected about 1/{stride} of {artifact.preprocess.size} for {kind!r}"


def hold_against_engine(artifact: Artifact, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Compare the JSON with the tensors that an opened engine declares. Every session calls it before the first frame.

    Args:
        artifact: what the JSON says.
        inputs: what the engine takes, in the JSON's terms: a session that converts declares what it converts from.
        outputs: what it returns, in the same way.

    Raises:
        UserError: another number of tensors, or a name, shape or dtype that differs.
    """
    for what, stated, ports in (("input", artifact.input, inputs), ("output", artifact.output, outputs)):
        if len(ports) != 1:
            raise UserError(f"{artifact.file} has {len(ports)} {what}s ({', '.join(port.name for port in ports)}); "
                            "expected one", try_=f"export {artifact.name} again")
        (port,) = ports
        frame_decides = what == "input"  # there, 0 is a statement; at the output it may be unknown to either side
        fits = port.shape is None or (len(port.shape) == len(stated.shape) and all(
            a == b or (not frame_decides and 0 in (a, b)) for a, b in zip(port.shape, stated.shape)))
        if port.name != stated.name or port.dtype != stated.dtype or not fits:
            shape = "" if port.shape is None else f" {list(port.shape)}"
            raise UserError(
                f"{artifact.file} has the {what} {port.name} {port.dtype}{shape}, the JSON beside it {stated.name} "
                f"{stated.dtype} {list(stated.shape)}: they do not belong together",
                try_=f"export {artifact.name} again")
