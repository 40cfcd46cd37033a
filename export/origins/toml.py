"""What a network of the user's expects: a small TOML file, its keys those of `KEYS`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.spec import LABEL_SETS, Classes, ModelSpec, Preprocess, label_set
from runtime.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _numbers(count: int, kinds: tuple[type, ...], low: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) == count and all(
        type(v) in kinds and v >= low for v in value)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _labels(value: Any) -> bool:
    return value in LABEL_SETS if isinstance(value, str) else (
        isinstance(value, list) and 2 <= len(value) <= 255 and all(isinstance(v, str) for v in value))


KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (_numbers(2, (int,), 1), "[height, width] in pixels (required)"),
    "classes": (_labels, f"2 to 255 class names, or one of {', '.join(LABEL_SETS)} (required)"),
    "palette": (_is(list), "one [red, green, blue] for each class; default: PASCAL VOC's colours"),
    "mean": (_numbers(3, (int, float), 0), "three numbers in units of 0..1, in the colour order; default: ImageNet"),
    "std": (_numbers(3, (int, float), 1e-9), "three positive numbers; default: ImageNet"),
    "colour_order": (lambda v: v in {"rgb", "bgr"}, '"rgb" or "bgr"; default: "rgb"'),
    "stride": (_positive, "input pixels per cell of the logits; default: 1, logits at input size"),
    "align_corners": (_is(bool), "the convention of the final upsampling; default: false"),
    "multiple": (_positive, "height and width must be multiples of this; default: the stride"),
    "name": (lambda v: isinstance(v, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*", v) is not None,
             "letters, digits, '.', '_' and '-'; default: the file's name"),
    "builder": (lambda v: isinstance(v, str) and ":" in v, '"package.module:function"'),
    "onnx": (_is(str), "path of an ONNX file, from the TOML's folder"),
    "options": (_is(dict), "a table of keyword arguments for the builder"),
    "licence": (_is(str), "a string"), "paper": (_is(str), "a string"), "note": (_is(str), "a string"),
}
"""What the TOML may say: key → (check, what is expected)."""


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
    values = _read(stated)
    if "builder" in values:
        return values["builder"], stated
    if "onnx" in values:
        return str(stated.parent / values["onnx"]), stated
    raise UserError(f'{name} names no network; expected a line builder = "package.module:function" or '
                    'onnx = "file.onnx"', try_=f"package.module:function --spec {name}")


def spec(target: str, path: Path) -> ModelSpec:
    """The spec of the network `target`, as the TOML at `path` describes it; its counts are 0, for nobody declared any.

    Raises:
        UserError: no such file, not TOML, or a key that is missing, unknown or not as expected.
    """
    values = _read(path)
    size = (values["size"][0], values["size"][1])
    default = Preprocess(size)
    stride = values.get("stride", 1)
    return ModelSpec(
        name=values.get("name", path.stem), builder=target, options=values.get("options", {}),
        preprocess=Preprocess(size, tuple(values.get("mean", default.mean)), tuple(values.get("std", default.std)),
                              values.get("colour_order", default.colour_order)),
        classes=_classes(path, values), stride=stride, align_corners=values.get("align_corners", False),
        multiple=values.get("multiple", stride), parameters=0, gmacs=0.0, counted_at=size,
        licence=values.get("licence", "not stated"), paper=values.get("paper", "not stated"),
        note=values.get("note", ""))


def _read(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error}); expected at least size and classes") from error
    for key, value in values.items():
        if key not in KEYS:
            raise UserError(f"{path} has the key {key!r}; known: {', '.join(KEYS)}")
        check, expected = KEYS[key]
        if not check(value):
            raise UserError(f"{path} says {key} = {value!r}; expected {expected}")
    for key in ("size", "classes"):
        if key not in values:
            raise UserError(f"{path} has no {key!r}; expected {KEYS[key][1]}")
    return values


def _classes(path: Path, values: dict[str, Any]) -> Classes:
    given = values["classes"]
    if isinstance(given, str):
        return LABEL_SETS[given]
    palette = values.get("palette")
    if palette is None:
        return Classes(path.stem, tuple(given), label_set(len(given), Classes("", (), ())).palette)
    if len(palette) != len(given) or not all(_numbers(3, (int,), 0)(c) and max(c) <= 255 for c in palette):
        raise UserError(f"{path} has {len(given)} classes and the palette {palette!r}; expected {KEYS['palette'][1]}")
    return Classes(path.stem, tuple(given), tuple((c[0], c[1], c[2]) for c in palette))
