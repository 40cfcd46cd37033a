"""From a file that anybody may have written to a value whose every field is of its type and in its range, or a reason.

JSON and TOML come in as plain values (`parsed`, `tomllib`) and go through `decoded`, which fills the frozen dataclasses
that the rest of the code uses anyway; types and ranges stand at their fields, as `Annotated[int, Meta(ge=0)]`.

Why msgspec: it reads standard dataclasses, knows ranges, and writes the JSON Schema of the same types. Measured in
November 2026 (Linux, Python 3.11, median of 11 starts in turns on a busy machine, on top of a bare interpreter's
52 ms; installed size with all that it needs):

    msgspec 0.22    28 ms    0.7 MB    ranges and JSON Schema built in; no dependencies
    cattrs 26.2     58 ms    1.6 MB    pure Python; ranges and schema would be ours to write
    pydantic 2.14  123 ms   10.1 MB    both built in

All three have wheels for Python 3.10 to 3.14 on aarch64. What msgspec leaves to us for dataclasses is to refuse unknown
and doubled keys.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

LIMIT = 16 << 20
"""Bytes of the largest file that is read; a thousand times what we write."""

DEPTH = 32
"""How deeply values may be nested; ours are at six."""

Kind = TypeVar("Kind")
Count = Annotated[int, Meta(ge=0)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Side = Annotated[int, Meta(ge=1, le=65535)]
Dimension = Annotated[int, Meta(ge=0, le=65535)]
Share = Annotated[int, Meta(ge=0, le=1)] | Annotated[float, Meta(ge=0, le=1)]
Number = Annotated[int, Meta(ge=-10**15, le=10**15)] | Annotated[float, Meta(ge=-1e308, le=1e308)]
"""Finite. Whole numbers stay whole, so that what is read and written again is the same text."""

Positive = Annotated[int, Meta(ge=1, le=10**6)] | Annotated[float, Meta(gt=0, le=1e6)]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$(?!\n)", max_length=32)]
"""ASCII letters, digits and a few signs. (Python's `$` also matches before a last line break, other languages' not.)"""

Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)", max_length=200)]
"""One line that is not empty."""

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
FileName = Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]+$(?!\n)", max_length=200)]
"""Beside the file that names it; never a path."""


class Mismatch(ValueError):
    """A value that is not what was asked for, in one line.

    Attributes:
        place: where, e.g. "preprocess.size[0]"; "" for the whole.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(what)
        self.place = place


def read(path: Path, limit: int = LIMIT) -> str:
    """The UTF-8 text of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than `limit` bytes, or not UTF-8.
    """
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit / 1e6:.0f} MB")
    return data.decode("utf-8")


def parsed(text: str) -> Any:
    """JSON as the standard has it → plain values.

    Raises:
        ValueError: malformed (NaN, half a surrogate pair, ...), a key that an object has twice, or nested by the
            thousand.
    """
    try:
        values = msgspec.json.decode(text)
        json.loads(text, object_pairs_hook=_unambiguous)  # of two keys alike, every reader believes another one
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return values


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {reprlib.repr(max(keys, key=keys.count))} stands twice in one object")
    return values


def _check_depth(values: Any, left: int) -> None:
    if not left:
        raise ValueError(f"nested more than {DEPTH} levels deep")
    if isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            _check_depth(value, left - 1)


def decoded(kind: type[Kind], values: Any, *, whole: bool = True, part: bool = False) -> Kind:
    """Plain values → a dataclass, or anything else that msgspec knows, without any conversion of one type to another.

    Args:
        kind: what is wanted.
        values: dicts, lists, strings, numbers.
        whole: whether fields with defaults must be there too, as in all that we write ourselves: what a file lost on
            its way shall not be made up.
        part: whether `kind` is only a part of what the file holds, whose other keys are passed over.

    Raises:
        Mismatch: what stands where, and what was expected there.
        ValueError: nested more than `DEPTH` levels deep.
    """
    _check_depth(values, DEPTH)
    if part and isinstance(values, dict):
        values = {key: value for key, value in values.items() if key in kind.__annotations__}
    try:
        made = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _mismatch(str(error), values) from None
    for key, is_what in _differences(values, made, "", whole):
        raise Mismatch(key, f"the key {reprlib.repr(key)} is {is_what}")
    return made


def _mismatch(message: str, values: Any) -> Mismatch:
    """Of msgspec's "Expected `int` >= 1 - at `$.stride`" and what stands there."""
    what, _, place = message.replace("`", "").partition(" - at $")
    what, place = what[0].lower() + what[1:], place.lstrip(".")
    if missing := re.fullmatch(r"object missing required field (.*)", what):
        key = f"{place}.{missing[1]}".lstrip(".")
        return Mismatch(key, f"the key {key!r} is missing")
    if "..." in place:  # msgspec does not say which key of a mapping it is
        return Mismatch(place, f"{place}: {what}")
    for step in re.findall(r"[^.\[\]]+", place):
        values = values[int(step) if isinstance(values, list) else step]
    return Mismatch(place, f"{place or 'it'} is {' '.join(reprlib.repr(values).split())}; {what}")


def _differences(values: Any, made: Any, at: str, whole: bool) -> Iterator[tuple[str, str]]:
    """Keys of `values` that did not reach `made` and, if it is to be `whole`, fields of `made` that came
    from nowhere."""
    if isinstance(made, tuple):
        for index, (value, part) in enumerate(zip(values, made)):
            yield from _differences(value, part, f"{at}[{index}]", whole)
    if not (is_dataclass(made) or isinstance(made, Mapping)):
        return
    parts = dict(made) if isinstance(made, Mapping) else {f.name: getattr(made, f.name) for f in fields(made)}
    for key in values.keys() - parts.keys():
        yield f"{at}.{key}".lstrip("."), "unknown"
    for key, part in parts.items():
        if key in values:
            yield from _differences(values[key], part, f"{at}.{key}".lstrip("."), whole)
        elif whole:
            yield f"{at}.{key}".lstrip("."), "missing"
