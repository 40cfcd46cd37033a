"""`--weights`: from a name or a path to a network with these weights in it, and the record of where they came from.

    a bundled name   e.g. "camvid": a file in `export/checkpoints/`, hash checked, no network needed
    a published name e.g. "torchvision": downloaded once into the cache, hash checked
    a path           .safetensors, or .pth/.pt/.bin/.ckpt holding tensors only; a folder that `save_pretrained` wrote
    "none"           the random weights that the network was built with; the artifact says "untrained"

Without a source, the bundled weights; where a network has several sets, those for the classes of its spec.
"""

from __future__ import annotations

import dataclasses
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from export import checkpoint
from export.checkpoint import SUFFIXES, few
from export.origins import Checkpoint, Origin
from export.record import WeightsRecord, read_record
from export.spec import ModelSpec
from runtime.artifact import Weights
from runtime.errors import UserError
from runtime.files import cache_folder, in_one_piece

if TYPE_CHECKING:
    from torch import nn

BUNDLED = Path(__file__).parent / "checkpoints"
RANDOM = Checkpoint("none", {}, "", "")
"""What `--weights none` means: the network keeps the weights that it was built with."""


def choices(entry: ModelSpec) -> str:
    """What `--weights` takes for this network, for a person."""
    names = [record.classes for record in bundled_sets(entry)] + list(entry.weights)
    return ", ".join([*names, "none (random)", f"a path ending in {', '.join(SUFFIXES)}"])


def bundled_sets(entry: ModelSpec) -> list[WeightsRecord]:
    """The records beside the bundled weights of a network, the default first."""
    found = [read_record(path) for path in sorted(BUNDLED.glob(f"{entry.name}*.json"))]
    own = [record for record in found if record.network == entry.name]
    return sorted(own, key=lambda record: record.classes != entry.classes.name)


def bundled(entry: ModelSpec, source: str | None = None) -> WeightsRecord | None:
    """The record of the bundled weights that `source` names, or of the default ones; None where there are none."""
    return next((record for record in bundled_sets(entry) if source in (None, record.classes)), None)


def put(network: nn.Module, loaded: Checkpoint) -> Weights:
    """Load weights into a network in place.

    Args:
        network: as `Origin.load` returns it.
        loaded: as `read` returns it.

    Returns:
        The artifact's `weights` record.

    Raises:
        UserError: they are weights of another network or class count.
    """
    if loaded is not RANDOM:
        _check(network, loaded)
        types = {key: tensor.dtype for key, tensor in network.state_dict().items()}
        network.load_state_dict({key: tensor.to(types[key]) for key, tensor in loaded.tensors.items()})
    return {"source": loaded.source, "sha256": loaded.sha256, "trained": loaded is not RANDOM,
            "terms": loaded.terms}


def summary(record: Weights) -> str:
    """An artifact's `weights` record in a line for a person: where they come from, and what they may be used for."""
    if not record["trained"]:
        return "random weights, UNTRAINED"
    return f"weights {record['source']}" + (f" ({record['terms']})" if record["terms"] else "")


def class_count(origin: Origin, loaded: Checkpoint) -> int | None:
    """For how many classes the weights were trained; None for random ones, which fit any number.

    Raises:
        UserError: the weights are another network's.
    """
    if loaded is RANDOM or loaded.classes:
        return loaded.classes
    two, three = (_empty(origin, classes).state_dict() for classes in (2, 3))
    depending = [key for key, tensor in two.items() if tensor.shape != three[key].shape]
    if not depending:  # a user's builder that knows its own number of classes
        return None
    for key in depending:
        if key in loaded.tensors:
            return int(loaded.tensors[key].shape[0])
    raise UserError(f"the weights {loaded.source} have no classifier of {origin.spec.name}: they are another "
                    "network's", try_=f"--weights with one of {choices(origin.spec)}")


def _empty(origin: Origin, classes: int | None = None) -> nn.Module:
    """The network for the sake of its tensors' names and shapes, without values where it is one of ours: a stranger's
    builder may read some (`[float(x) for x in torch.linspace(0, 0.1, 12)]`), and a meta tensor has none."""
    import torch

    with torch.device("cpu" if origin.stated_in else "meta"):
        return origin.load(classes)


def read(origin: Origin, source: str | None) -> Checkpoint:
    """Find the weights called `source`, read and hash them once, and bring them to the network's names.

    Args:
        origin: the network.
        source: see the module's description; None for the network's own, or else the bundled weights.

    Raises:
        UserError: there are none, the hash differs, or the file holds no weights.
    """
    if source == "none":
        return RANDOM
    if origin.own_weights is None:
        return _in_our_names(_found(origin.spec, source), origin)
    if source is not None:
        raise UserError(f"--weights {source} was received for {origin.spec.builder}, which holds its own weights",
                        try_="leave --weights out")
    return origin.own_weights()


def _found(entry: ModelSpec, source: str | None) -> Checkpoint:
    own = bundled(entry, source)
    if source is None and own is None:
        raise UserError(f"{entry.name} has no bundled weights; known: {choices(entry)}",
                        try_=f"--weights {next(iter(entry.weights), 'none')}")
    if own is not None:
        return _opened(f"{entry.name}-{own.classes}", BUNDLED / own.file, own.sha256, own.terms)
    assert source is not None
    if source in entry.weights:
        address, expected = entry.weights[source]
        return _opened(source, _downloaded(address, expected), expected, f"see {address}")
    path = Path(source)
    if not checkpoint.files(path):
        raise UserError(f"--weights {source} is neither a file nor known for {entry.name}; known: {choices(entry)}")
    return _opened(path.name, path, "", "")


def _in_our_names(loaded: Checkpoint, origin: Origin) -> Checkpoint:
    """A checkpoint in the network's names: without the prefixes of wrappers, and translated where it is one of the
    public implementation that the network's family knows."""
    import torch

    network = _empty(origin)
    wanted = set(network.state_dict())
    tensors, stripped = checkpoint.without_prefixes(loaded.tensors, wanted)
    names = origin.reference()
    if names is not None and not wanted <= set(tensors):
        from export.models._names import renamed

        tensors = renamed(tensors, names, network)
    for name in wanted:  # older torch did not save the counters of batch norms, which only training reads
        if name.endswith(counter := "num_batches_tracked") and name.replace(counter, "running_mean") in tensors:
            tensors.setdefault(name, torch.zeros((), dtype=torch.int64))
    source = loaded.source + (f" without the prefix {stripped!r}" if stripped else "")
    return dataclasses.replace(loaded, source=source, tensors=tensors)


def _opened(source: str, path: Path, expected: str, terms: str) -> Checkpoint:
    held = checkpoint.files(path)
    digest = _verified(path, checkpoint.sha256(held), expected)  # before anything parses the file
    tensors, wrapper = checkpoint.tensors(held)
    return Checkpoint(source + (f"[{wrapper!r}]" if wrapper else ""), tensors, digest, terms)


def _verified(path: Path, found: str, expected: str) -> str:
    if not found.startswith(expected):
        raise UserError(f"{path} has SHA-256 {found[:12]}…, expected {expected[:12]}…: the file was changed or cut "
                        "short", try_="remove it and fetch it again")
    return found


def _check(network: nn.Module, loaded: Checkpoint) -> None:
    """Raise a UserError that says how the checkpoint and the network differ."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in loaded.tensors.items()}
    shapes = {key: (found[key], wanted[key]) for key in wanted if key in found and found[key] != wanted[key]}
    missing = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    counts = {(f[0], w[0]) for f, w in shapes.values() if f[:1] and w[:1] and f[1:] == w[1:]}
    if not missing and not extra and len(counts) == 1 and all(f[1:] == w[1:] for f, w in shapes.values()):
        has, needs = counts.pop()
        raise UserError(f"the weights {loaded.source} are for {has} classes, the network has {needs}",
                        try_=f"--classes {has}")
    problems = [f"{len(keys)} {what}: {few(keys)}" for what, keys in (
        ("missing", missing), ("unexpected", extra),
        ("of another shape", [f"{key} {f} instead of {w}" for key, (f, w) in shapes.items()])) if keys]
    if problems:
        raise UserError(f"the weights {loaded.source} do not fit the network: {'; '.join(problems)}",
                        try_="the network that they were trained for, or --weights none")


def _downloaded(address: str, expected: str) -> Path:
    """The file behind `address`, from the cache or fetched into it; only a file with the right hash gets there."""
    path = cache_folder() / address.rsplit("/", 1)[-1]
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with in_one_piece(path) as temporary:
            with urllib.request.urlopen(address, timeout=60) as answer, temporary.open("wb") as stream:
                while block := answer.read(1 << 20):
                    stream.write(block)
            _verified(temporary, checkpoint.sha256([temporary]), expected)
    except (urllib.error.URLError, TimeoutError) as error:
        raise UserError(f"{address} cannot be fetched ({getattr(error, 'reason', error)})",
                        try_=f"fetch it elsewhere and put it at {path}") from error
    return path
