"""What a network of the user's expects: a small TOML file, its keys the fields of `Stated`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from msgspec import Meta

from calibration.data.label_sets import LABEL_SETS, label_set
from export.spec import Classes, ModelSpec, Preprocess
from runtime.artifact import Stride
from runtime.decode import Byte, Mismatch, Positive, Side, Text, decoded, read
from runtime.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


NotNegative = Annotated[int, Meta(ge=0, le=10**6)] | Annotated[float, Meta(ge=0, le=1e6)]
Labels = Annotated[tuple[Text, ...], Meta(min_length=2, max_length=255)]
Colour = tuple[Byte, Byte, Byte]


@dataclass(frozen=True)
class Stated:
    """What the TOML may say.

    Attributes:
        size: [height, width] in pixels (required).
        classes: 2 to 255 different class names, or one of camvid, cityscapes, voc (required).
        palette: one [red, green, blue] of 0..255 for each class; default: PASCAL VOC's colours.
        mean: three numbers in units of 0..1, in the colour order; default: ImageNet.
        std: three positive numbers; default: ImageNet.
        colour_order: "rgb" or "bgr"; default: "rgb".
        stride: input pixels per cell of the logits; default: 1, logits at input size.
        align_corners: the convention of the final upsampling, true or false; default: false.
        multiple: height and width must be multiples of this; default: the stride.
        name: letters, digits, '.', '_' and '-'; default: the file's name.
        builder: "package.module:function".
        onnx: path of an ONNX file, from the TOML's folder.
        options: a table of keyword arguments for the builder.
        licence: a string.
        paper: a string.
        note: a string.
    """

    size: tuple[Side, Side]
    classes: Literal["camvid", "cityscapes", "voc"] | Labels
    palette: tuple[Colour, ...] | None = None
    mean: tuple[NotNegative, NotNegative, NotNegative] = Preprocess.mean
    std: tuple[Positive, Positive, Positive] = Preprocess.std
    colour_order: Literal["rgb", "bgr"] = Preprocess.colour_order
    stride: Stride = 1
    align_corners: bool = False
    multiple: Side | None = None
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]*$(?!\n)", max_length=100)] | None = None
    builder: Annotated[str, Meta(pattern=":")] | None = None
    onnx: Text | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "not stated"
    paper: str = "not stated"
    note: str = ""


KEYS = dict(re.findall(r"^ {8}(\w+): (.+)\.$", Stated.__doc__ or "", re.MULTILINE))
"""Key → what is expected, for messages."""


def split(name: str) -> tuple[str, Path | None]:
    """A name as people type it → what to load, and the TOML that describes it where one is named.

    Raises:
        UserError: the name is a TOML that cannot be used, or that names no network.
    """
    target, at, path = name.rpartition("@")
    if at and path.endswith(".toml"):
        return target, Path(path)
    if not name.endswith(".toml"):
        return name, None
    stated = Path(name)
    given = _read(stated)
    if given.builder:
        return given.builder, stated
    if given.onnx:
        return str(stated.parent / given.onnx), stated
    raise UserError(f'{name} names no network; expected a line builder = "package.module:function" or '
                    'onnx = "file.onnx"', try_=f"package.module:function --spec {name}")


def spec(target: str, path: Path, found: ModelSpec | None = None) -> ModelSpec:
    """The spec of the network `target`, as the TOML at `path` describes it; its counts are 0, as none are declared.

    Args:
        target: what to load.
        path: the TOML.
        found: what is known of the network without it, which it overrides; None where it must say everything.

    Raises:
        UserError: no such file, not TOML, or a key that is missing, unknown or not as expected.
    """
    given = _read(path, _known(found) if found else {})
    return ModelSpec(
        name=given.name or path.stem, builder=target, options=given.options,
        preprocess=Preprocess(given.size, given.mean, given.std, given.colour_order), classes=_classes(path, given),
        stride=given.stride, align_corners=given.align_corners, multiple=given.multiple or given.stride, parameters=0,
        gmacs=0.0, counted_at=given.size, licence=given.licence, paper=given.paper, note=given.note,
        weights=found.weights if found else {})


def _known(found: ModelSpec) -> dict[str, Any]:
    """A spec as the TOML that would say the same."""
    preprocess = found.preprocess
    return {"size": list(preprocess.size), "mean": list(preprocess.mean), "std": list(preprocess.std),
            "colour_order": preprocess.colour_order, "classes": list(found.classes.names), "stride": found.stride,
            "align_corners": found.align_corners, "multiple": found.multiple, "name": found.name,
            "licence": found.licence, "paper": found.paper, "note": found.note}


def _read(path: Path, known: Mapping[str, Any] = MappingProxyType({})) -> Stated:
    try:
        values = {**known, **tomllib.loads(read(path))}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error}); expected at least size and classes") from error
    try:
        return decoded(Stated, values, whole=False)
    except Mismatch as error:
        key = error.place.split("[")[0]
        raise UserError(f"{path}: {error}" + (f"; {key}: {KEYS[key]}" if key in KEYS else f"; known: {', '.join(KEYS)}")
                        ) from error


def _classes(path: Path, given: Stated) -> Classes:
    if isinstance(given.classes, str):
        return LABEL_SETS[given.classes]
    count = len(given.classes)
    if len(set(given.classes)) < count:
        raise UserError(f"{path} has a class name twice; expected {KEYS['classes']}")
    if given.palette is None:
        return Classes(path.stem, given.classes, label_set(count, Classes("", (), ())).palette)
    if len(given.palette) != count:
        raise UserError(f"{path} has {count} classes and {len(given.palette)} colours; expected {KEYS['palette']}")
    return Classes(path.stem, given.classes, given.palette)
