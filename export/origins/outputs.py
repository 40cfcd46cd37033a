"""What a network that is not of ours returns, held against what was stated about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.spec import ModelSpec
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def check_logits(network: nn.Module, entry: ModelSpec, stated_in: str) -> None:
    """Run a network once and see whether its logits are what its spec promises.

    Args:
        network: with weights.
        entry: its spec.
        stated_in: where a person stated that, for the message.

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
                        f"(1, {wanted[1]}, {wanted[2]:g}, {wanted[3]:g})",
                        try_=f"another stride or classes in {stated_in}")
