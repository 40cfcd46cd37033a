"""A function of the user's that builds a network: `package.module:function`."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.origins import toml
from export.origins.origin import Origin
from export.quiet import reason
from export.spec import ModelSpec
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def takes(target: str) -> bool:
    """Whether `target` names a function."""
    return ":" in target


def origin(target: str, stated: Path | None) -> Origin:
    """The network that the function `target` builds, as the TOML `stated` describes it.

    Raises:
        UserError: there is no TOML, or it cannot be used.
    """
    if stated is None:
        raise UserError(f"{target} is a network of your own, and nothing says what it expects",
                        try_=f"{target} --spec FILE.toml, with size, classes and stride")
    entry = toml.spec(target, stated)
    return Origin(entry, partial(build, entry), stated_in=str(stated))


def build(entry: ModelSpec, classes: int) -> nn.Module:
    """Call the function.

    Raises:
        UserError: it cannot be imported or called, or what it returns is no module on the CPU that can be traced.
    """
    import torch
    from torch import jit, nn

    builder = _function(entry.builder)
    try:
        with torch.no_grad():  # tensors that it computes and keeps could not be copied otherwise
            network = builder(classes=classes, **entry.options)
    except Exception as error:  # a stranger's code may raise anything
        given = {"classes": classes, **entry.options}
        raise UserError(f"{entry.builder} cannot be called with {given} ({reason(error)}); expected a function that "
                        "takes classes and the TOML's options as its keywords, and builds on the CPU") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{entry.builder} returned a {type(network).__name__}; expected a torch.nn.Module")
    if elsewhere := {str(tensor.device) for tensor in network.state_dict().values()} - {"cpu"}:
        raise UserError(f"{entry.builder} returned a network on {', '.join(sorted(elsewhere))}; expected it on the CPU")
    if any(isinstance(module, jit.ScriptModule) or hasattr(module, "_orig_mod") for module in network.modules()):
        raise UserError(f"{entry.builder} returned a network that torch.jit or torch.compile made; expected the plain "
                        "torch.nn.Module that it was made from, as torch.export cannot look into another")
    return network


def _function(name: str) -> Any:
    """What `name` says, or a UserError."""
    package, _, function = name.partition(":")
    try:
        module = importlib.import_module(package)
    except Exception as error:  # importing runs a stranger's code
        absent = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        own = absent is not None and f"{package}.".startswith(f"{absent}.")
        raise UserError(f"{name} cannot be imported ({reason(error)})",
                        try_="run the command in the folder that holds the package" if own else
                        f"python -c 'import {package}', which must work first") from error
    if not hasattr(module, function):
        raise UserError(f"the module {package} has no {function!r}; expected a function or class that builds the "
                        "network")
    return getattr(module, function)
