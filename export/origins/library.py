"""What the adapters of libraries share: reading a name, and finding out by running what a TOML would state."""

from __future__ import annotations

import ast
import logging
import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from export.origins.outputs import logits_of
from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn

EDGE = 64
"""Pixels: a probing frame has about twice as many along each side, or more."""
MULTIPLES = (1, 2, 4, 8, 16, 32, EDGE)
REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
"""What a network raises that does not take a frame."""
TALKATIVE = ("torchao", "torch.utils._pytree")
"""Loggers that warn of kernels for other machines whenever a library imports torchao."""


def need(target: str, module: str) -> None:
    """See that the library of a name can be imported, without the remarks of `TALKATIVE`.

    Raises:
        MissingLibrary: it is not there.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    cli.need(target, "libraries", module)


def named(target: str) -> tuple[str, dict[str, Any]]:
    """"library:Name?key=value&key=value" → the name, and its options as Python values: 3, True, (1, 2), text."""
    name, _, options = target.partition(":")[2].partition("?")
    return name, {key: _value(text) for key, text in parse_qsl(options, keep_blank_values=True)}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def file_name(target: str) -> str:
    """A target as the beginning of a file name: letters, digits, "_" and "-"."""
    return re.sub(r"[^a-z0-9_]+", "-", re.sub(r"\w+=", "", target.lower())).strip("-")


def probed(network: nn.Module, *sizes: tuple[int, int]) -> tuple[int, int, tuple[int, int]]:
    """What small frames show of a network.

    Args:
        network: in eval mode.
        sizes: (H, W) that it may have been made for, the usual one first; the others are for networks that take one
            size only.

    Returns:
        Stride of the logits; what height and width must be multiples of; the first of `sizes` that fits.

    Raises:
        UserError: the network takes no frame, or its logits are no whole fraction of it.
    """
    for size in ((2 * EDGE, 4 * EDGE), *sizes):
        logits = _logits(network, size)
        if logits is not None:
            break
    else:
        raise UserError(f"the network takes no float32 frame [1, 3, H, W] of {' or '.join(map(str, sizes))}; expected "
                        "one of these sizes to fit")
    stride = round(size[0] / logits[0])
    if (logits[0] * stride, logits[1] * stride) != size:
        raise UserError(f"the network's logits are {logits} for a frame of {size}; expected a whole fraction of it")
    if size in sizes:
        return stride, math.gcd(*size), size
    multiple = next((m for m in MULTIPLES if _fits(_logits(network, frame := _odd(m)), frame, stride)), 2 * EDGE)
    return stride, multiple, sizes[0]


def _odd(multiple: int) -> tuple[int, int]:
    """A size that is an odd number of multiples along each side, and not square."""
    edge = multiple * (2 * (EDGE // multiple) + 1)
    return edge, edge + 2 * multiple


def _fits(logits: tuple[int, int] | None, size: tuple[int, int], stride: int) -> bool:
    """Whether these are the logits of the whole frame: a cell more or less is a matter of rounding."""
    return logits is not None and all(abs(a - b / stride) <= 1 for a, b in zip(logits, size))


def _logits(network: nn.Module, size: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the logits for a frame of `size`; None where the network does not take it."""
    import torch

    try:
        with torch.inference_mode():
            height, width = logits_of(network(torch.zeros(1, 3, *size))).shape[-2:]
    except REFUSALS:
        return None
    return height, width
