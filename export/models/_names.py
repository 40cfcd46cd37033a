"""State dicts of public implementations, brought to our names by a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class NameMap:
    """How one public implementation names what our network has.

    Attributes:
        source: the implementation, as "owner/repository".
        renames: (pattern, replacement), the first pattern that is found in a name counts; `{n}` in a replacement is
            the pattern's group n, `{n-1}` that group as a number less one. Names that no pattern matches stay.
        dropped: patterns of names that only training has.
        inplace_abn: pattern of those of our batch norms that are InPlaceABN's there, which scale by |γ| + ε instead of
            γ (mapillary/inplace_abn#92); ours then get that sum as their γ. None: there are none.
    """

    source: str
    renames: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    inplace_abn: str | None = None


def rename(name: str, names: NameMap) -> str:
    """One name of the implementation → ours."""
    for pattern, replacement in names.renames:
        if match := re.search(pattern, name):
            new = re.sub(r"\{(\d)(-\d)?\}", partial(_field, match.groups()), replacement)
            return name[:match.start()] + new + name[match.end():]
    return name


def _field(groups: tuple[str, ...], field: re.Match[str]) -> str:
    group = groups[int(field[1]) - 1]
    return str(int(group) + int(field[2])) if field[2] else group


def renamed(state: Mapping[str, Tensor], names: NameMap, network: nn.Module) -> dict[str, Tensor]:
    """A state dict of `names.source` in our names; `export.weights.put` says what does not fit.

    `module.` prefixes (DataParallel) are removed, and missing batch counters, which older torch did not save, are
    added.
    """
    scales = {f"{name}.weight": module.eps for name, module in network.named_modules()
              if isinstance(module, nn.BatchNorm2d) and names.inplace_abn and re.search(names.inplace_abn, name)}
    new: dict[str, Tensor] = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if any(re.search(pattern, name) for pattern in names.dropped):
            continue
        name = rename(name, names)
        new[name] = value.abs() + scales[name] if name in scales else value
    for name in network.state_dict():
        if name.endswith("num_batches_tracked"):
            new.setdefault(name, torch.zeros((), dtype=torch.int64))
    return new
