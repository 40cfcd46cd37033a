"""A function of the user's that builds a network: `package.module:function`."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from export.origins import toml
from export.origins.origin import Origin
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
        UserError: it cannot be imported or called, or what it returns is no module.
    """
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
