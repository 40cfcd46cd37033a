"""A user's own network, wherever a network's name is accepted: what it is stands in a small TOML file.

    package.module:builder@my.toml    a function of the user's, called as `builder(classes=N, **options)`
    my.onnx or my.onnx@my.toml        an existing ONNX file: float NCHW, normalised → float NCHW logits
    my.toml                           either of them, named in the TOML as `builder` or `onnx`

`--spec my.toml` says the same as `@my.toml`. The keys of the TOML are those of `KEYS`.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.spec import CAMVID, CITYSCAPES, VOC, Classes, ModelSpec, Preprocess, label_set
from runtime.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from torch import nn

LABEL_SETS = {labels.name: labels for labels in (CAMVID, CITYSCAPES, VOC)}


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


def is_custom(name: str) -> bool:
    """Whether `name` is one of the three forms rather than a listed network."""
    return ":" in name or name.endswith((".onnx", ".toml"))


def spec_of(name: str) -> ModelSpec:
    """The spec of a network of the user's; its counts are 0, for nobody declared any.

    Raises:
        UserError: no such file, not TOML, or a key that is missing, unknown or not as expected.
    """
    target, path = _split(name)
    values = _read(path)
    origin = target or values.get("builder") or values.get("onnx")
    if not origin:
        raise UserError(f'{path} names no network; expected a line builder = "package.module:function" or '
                        'onnx = "file.onnx"', try_=f"package.module:function --spec {path}")
    if not target and not values.get("builder"):
        origin = str(path.parent / values["onnx"])
    return _spec(origin, path, values)


def _split(name: str) -> tuple[str, Path]:
    """A name → what to load ("" where the TOML says it), and the TOML's path."""
    target, at, toml = name.rpartition("@")
    if at and toml.endswith(".toml"):
        return target, Path(toml)
    if name.endswith(".toml"):
        return "", Path(name)
    if name.endswith(".onnx"):
        return name, Path(name).with_suffix(".toml")
    raise UserError(f"{name} is a network of your own, and nothing says what it expects",
                    try_=f"{name} --spec FILE.toml, with size, classes and stride")


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


def _spec(origin: str, path: Path, values: dict[str, Any]) -> ModelSpec:
    size = (values["size"][0], values["size"][1])
    default = Preprocess(size)
    stride = values.get("stride", 1)
    return ModelSpec(
        name=values.get("name", path.stem), builder=origin, options=values.get("options", {}),
        preprocess=Preprocess(size, tuple(values.get("mean", default.mean)), tuple(values.get("std", default.std)),
                              values.get("colour_order", default.colour_order)),
        classes=_classes(path, values), stride=stride, align_corners=values.get("align_corners", False),
        multiple=values.get("multiple", stride), parameters=0, gmacs=0.0, counted_at=size,
        licence=values.get("licence", "not stated"), paper=values.get("paper", "not stated"),
        note=values.get("note", ""))


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


def load(entry: ModelSpec, classes: int) -> nn.Module:
    """Build a network of the user's, with random weights.

    Raises:
        UserError: the builder cannot be imported or called, or what it returns is no module; or the ONNX file cannot
            be read.
    """
    if entry.builder.endswith(".onnx"):
        from export.foreign import OnnxNetwork

        return OnnxNetwork(Path(entry.builder))
    from torch import nn

    package, _, function = entry.builder.partition(":")
    try:
        builder = getattr(importlib.import_module(package), function)
    except ModuleNotFoundError as error:
        raise UserError(f"{entry.builder} cannot be imported ({error})",
                        try_="run the command in the folder that holds the package") from error
    except AttributeError as error:
        raise UserError(f"the module {package} has no {function!r}; expected a function or class that builds the "
                        "network") from error
    try:
        network = builder(classes=classes, **entry.options)
    except TypeError as error:
        given = {"classes": classes, **entry.options}
        raise UserError(f"{entry.builder} cannot be called with {given} ({error}); expected classes and the TOML's "
                        "options as its keywords") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{entry.builder} returned a {type(network).__name__}; expected a torch.nn.Module")
    return network


def check_logits(network: nn.Module, entry: ModelSpec) -> None:
    """Run a network of the user's once and see whether its logits are what the TOML promises.

    Raises:
        UserError: they are not a float tensor [1, classes, about H / stride, about W / stride].
    """
    import torch

    with torch.inference_mode():
        y = network(torch.zeros(1, 3, *entry.preprocess.size))
    wanted = (1, len(entry.classes.names), *(n / entry.stride for n in entry.preprocess.size))
    shape = tuple(y.shape) if isinstance(y, torch.Tensor) else None
    if shape is None or len(shape) != 4 or shape[:2] != wanted[:2] or any(
            abs(a - b) > 1 for a, b in zip(shape[2:], wanted[2:])):
        raise UserError(f"{entry.builder} returns {f'a tensor {shape}' if shape else type(y).__name__} for an input of "
                        f"{entry.preprocess.size[0]}x{entry.preprocess.size[1]}; expected logits of about "
                        f"(1, {wanted[1]}, {wanted[2]:g}, {wanted[3]:g})", try_="another stride or classes in the TOML")
