"""A checkpoint as people have it → names and tensors: what surrounds the weights is taken off, and said.

A file (`SUFFIXES`), or a folder as Hugging Face's `save_pretrained` writes it, whole or in shards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.quiet import reason
from runtime.decode import Text, decoded, parsed, read
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
FOLDERS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What holds the weights of a folder, the first that is there; an index names the shards."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema", "ema_state_dict", "model_ema", "state_dict_ema")
"""Keys under which training scripts keep the weights; where there are two of them, the first of this list counts."""
PREFIXES = ("module.", "model.", "net.", "network.", "_orig_mod.")
"""What DataParallel, Lightning, one's own wrapper and torch.compile put before every name."""
LISTED = 3
"""How many names an error gives."""


@dataclass(frozen=True)
class Index:
    """What is read of a folder's index: the file that holds each tensor."""

    weight_map: Mapping[str, Text]


def files(path: Path) -> list[Path]:
    """The files that hold the weights at `path`, in a fixed order; empty where there are none."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    held = next((path / name for name in FOLDERS if (path / name).is_file()), None)
    if held is None or held.suffix != ".json":
        return [held] if held else []
    try:
        shards = sorted(set(decoded(Index, parsed(read(held)), part=True).weight_map.values()))
    except (OSError, ValueError) as error:
        raise UserError(f"{held} cannot be read as an index of shards ({error}); expected a weight_map") from error
    absent = [name for name in shards if Path(name).name != name or not (path / name).is_file()]
    if absent:
        raise UserError(f"{held} names {few(absent)}, which {path} does not hold; expected all shards beside the index")
    return [path / name for name in shards]


def sha256(held: Sequence[Path]) -> str:
    """Of the file; of the files' hashes in their order, where there are several."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in held]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def tensors(held: Sequence[Path]) -> tuple[dict[str, Tensor], str]:
    """Names and tensors of a checkpoint, and the wrapper that was taken off ("" for none).

    Raises:
        UserError: a file is damaged, would run code, or holds something else than finite numbers.
    """
    import torch

    values, wrapper = dict[str, Any](), ""
    for path in held:
        part = _loaded(path)
        key = next((key for key in WRAPPERS if isinstance(part, Mapping) and isinstance(part.get(key), Mapping)), "")
        part, wrapper = (part[key] if key else part), wrapper or key
        if not isinstance(part, Mapping) or not part or not all(isinstance(v, torch.Tensor) for v in part.values()):
            raise UserError(f"{path} is not a checkpoint; expected a dictionary of names and tensors")
        bad = [name for name, value in part.items() if value.is_floating_point() and not bool(value.isfinite().all())]
        if bad:
            raise UserError(f"{path} has values that are not finite in {few(bad)}; expected finite numbers")
        values |= part
    return values, wrapper


def _loaded(path: Path) -> Any:
    """What a file holds, read without running anything in it."""
    import torch
    from safetensors.torch import load_file

    try:
        return (load_file(path) if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # of damage, torch's unpickler also says struct.error, IndexError, TypeError, ...
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(f"{path} holds {code[1]}, and reading that would run code of the file's author; expected "
                            "tensors only",
                            try_="where it was trained, torch.save(model.state_dict(), 'weights.pth')") from None
        advises = "weights_only" in str(error)  # torch's own words end in the advice to load it unsafely
        why = "no tensors in a pickle" if advises else reason(error)
        raise UserError(f"{path} cannot be read as a checkpoint ({why}); expected tensors only") from error


def without_prefixes(values: Mapping[str, Tensor], wanted: set[str]) -> tuple[dict[str, Tensor], str]:
    """Take off every prefix that the network's own names do not have, until the names fit as well as they can.

    Args:
        values: of a checkpoint.
        wanted: the network's own names.

    Returns:
        The checkpoint under its new names, and what was taken off, outermost first.
    """
    found, stripped = dict(values), ""
    while True:
        for prefix in PREFIXES:
            shorter = {name.removeprefix(prefix): value for name, value in found.items()}
            everywhere = all(name.startswith(prefix) for name in found) and not any(
                name.startswith(prefix) for name in wanted)
            if len(shorter) == len(found) and (everywhere or len(wanted & set(shorter)) > len(wanted & set(found))):
                found, stripped = shorter, stripped + prefix
                break
        else:
            return found, stripped


def few(names: Sequence[str]) -> str:
    """The first names of a list, for an error."""
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
