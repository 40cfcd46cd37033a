"""What a network that is not of ours returns: where its logits are, and whether they are as stated."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from export.checkpoint import few
from export.quiet import reason
from export.spec import ModelSpec
from runtime.errors import EdgesegError, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn


def logits_of(returned: Any) -> Tensor:
    """The logits in what a network returned: a tensor; the first of a tuple or list; "out" or "logits" of a
    dictionary; `.logits` of an object. Auxiliary outputs, which only training has a use for, are left. float32,
    whatever the network computes in.

    Raises:
        UserError: it is something else; the message says what came.
    """
    import torch

    found = returned
    if isinstance(found, Mapping):
        found = found.get("out", found.get("logits"))
    elif isinstance(found, tuple | list) and found:
        found = found[0]
    elif hasattr(found, "logits"):
        found = found.logits
    if not isinstance(found, torch.Tensor):
        raise UserError(f"the network returns {_what(returned)}; expected logits as a tensor, the first of a tuple, "
                        '"out" of a dictionary or .logits of an object')
    if not found.is_floating_point():
        raise UserError(f"the network returns numbers of type {found.dtype}; expected logits, from before an argmax, "
                        "as float32")
    return found if found.dtype == torch.float32 else found.float()


def _what(value: Any) -> str:
    """What came, for a person: the type, and what is in it."""
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(type(v).__name__ for v in value) or 'nothing'}"
    return f"a {type(value).__name__}"


def check_logits(network: nn.Module, entry: ModelSpec, stated_in: str) -> None:
    """Run a network and its copy on one frame and see whether their logits are what its spec promises.

    Args:
        network: with weights.
        entry: its spec.
        stated_in: where that was stated, for the message.

    Raises:
        UserError: it cannot be brought to eval mode; it does not take the frame; its logits are not a float tensor
            [1, classes, about H / stride, about W / stride], or not finite; it cannot be copied; or its logits differ
            from run to run.
    """
    import torch

    if training := [name or "the network" for name, module in network.named_modules() if module.training]:
        raise UserError(f"{entry.builder} stays in train mode after .eval() ({few(training)}); expected a train() that "
                        "hands its mode on to every module")
    height, width = entry.preprocess.size
    frame = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        try:
            first = logits_of(network(frame.clone()))  # a network may write into its input
            network(frame.flip(3))  # what it keeps of a frame must not show in the next
        except EdgesegError:
            raise
        except Exception as error:  # a stranger's code may raise anything
            raise UserError(f"{entry.builder} does not take a frame of {height}x{width} ({reason(error)}); expected a "
                            f"forward of one float32 [1, 3, {height}, {width}] on the CPU",
                            try_=f"another --size, or another multiple in {stated_in}") from error
        try:
            second = logits_of(copy.deepcopy(network)(frame.clone()))
        except Exception as error:
            raise UserError(f"a copy of {entry.builder} does not run ({reason(error)}); expected a module that "
                            "copy.deepcopy takes, without hooks or functions that hold the original") from error
    wanted = (1, len(entry.classes.names), height / entry.stride, width / entry.stride)
    shape = tuple(first.shape)
    if len(shape) != 4 or shape[:2] != wanted[:2] or any(abs(a - b) > 1 for a, b in zip(shape[2:], wanted[2:])):
        raise UserError(f"{entry.builder} returns a tensor {shape} for an input of {height}x{width}; expected logits "
                        f"of about (1, {wanted[1]}, {wanted[2]:g}, {wanted[3]:g})",
                        try_=f"another stride or classes in {stated_in}")
    if not bool(first.isfinite().all()):
        raise UserError(f"{entry.builder} returns logits that are not finite (NaN or infinity) for a frame of noise; "
                        "expected finite numbers", try_="--weights from a training that did not diverge, or a network "
                        "without the log, root or division that they come from")
    if not torch.equal(first, second):
        raise UserError(f"{entry.builder} returns other logits when it sees the same frame again; expected a network "
                        "that is deterministic in eval mode, and neither keeps anything of the frame before nor hooks "
                        "into the original of a copy: F.dropout needs training=self.training")
