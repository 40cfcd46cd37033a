"""What is to be exported: from a command's words to a network with its weights, checked before any work begins."""

from __future__ import annotations

import argparse
import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.spec import ModelSpec
from runtime import cli
from runtime.artifact import OutputKind, Weights
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is to be exported.

    Attributes:
        spec: the network, with the input size and classes that are wanted.
        network: its module with weights loaded.
        control: the same network with other weights, for the negative control.
        weights: where they come from: the artifact's `weights` record.
        output: what the graph returns.
        precision: "fp32" or "fp16".
        dynamic: height and width are decided by the frame.
        simplify: whether onnxsim takes part.
    """

    spec: ModelSpec
    network: nn.Module
    control: nn.Module
    weights: Weights
    output: OutputKind = OutputKind.LOW
    precision: str = "fp32"
    dynamic: bool = False
    simplify: bool = True

    @property
    def stem(self) -> str:
        """File name without ending: NAME-HxW-PRECISION, and what is not the default."""
        height, width = self.spec.preprocess.size
        size = "dynamic" if self.dynamic else f"{height}x{width}"
        output = "" if self.output is OutputKind.LOW else f"-{self.output.value}"
        return f"{self.spec.name}-{size}-{self.precision}{output}"


def request(name: str, *, weights: str | None = None, classes: int | None = None, size: tuple[int, int] | None = None,
            **options: Any) -> Request:
    """Build the network, load its weights, and check that it can be exported as asked.

    Args:
        name: a network's name, as `export.origins` describes.
        weights: a bundled or published set's name, a path, or "none"; None for the bundled default.
        classes: number of classes; None for what the weights have.
        size: input (H, W); None for the one that bundled weights were trained for, or the spec's.
        options: the other fields of `Request`.

    Raises:
        UserError: no such network or weights, or a size or class count that does not fit.
    """
    import torch

    from calibration.data.label_sets import label_set
    from export.origins import find
    from export.origins.outputs import check_logits
    from export.weights import bundled, class_count, put, read

    origin = find(name)
    entry = origin.spec
    own = bundled(entry, weights)
    height, width = size or (own.size if own else None) or entry.preprocess.size
    if height % entry.multiple or width % entry.multiple:
        near = tuple(max(round(n / entry.multiple), 1) * entry.multiple for n in (height, width))
        raise UserError(f"size {height}x{width} does not fit {name}; both must be multiples of {entry.multiple}",
                        try_=f"--size {near[0]}x{near[1]}")
    if classes is not None and not 2 <= classes <= 255:
        raise UserError(f"--classes {classes} was received; expected 2 to 255, as a class map holds one byte a pixel")
    checkpoint = read(origin, weights)
    labels = label_set(classes or class_count(origin, checkpoint) or len(entry.classes.names), entry.classes)
    torch.manual_seed(0)
    network = origin.load(len(labels.names))
    record = put(network, checkpoint)
    torch.manual_seed(1)
    control = origin.load(len(labels.names))
    entry = dataclasses.replace(entry, classes=labels,
                                preprocess=dataclasses.replace(entry.preprocess, size=(height, width)))
    if origin.stated_in:
        check_logits(network, entry, origin.stated_in)
    return Request(entry, network, control, record, **options)


def tools(*packages: str) -> dict[str, str]:
    """Versions of everything that took part: Python, edgeseg and `packages`."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def arguments(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """The flags that every exporter shares."""
    parser = cli.parser(prog, description, example)
    parser.add_argument("name", help="network, as `python -m export.models` lists them; or your own: "
                                     "package.module:builder, FILE.onnx or FILE.toml")
    parser.add_argument("--spec", type=Path, metavar="FILE.toml", help="your own network's size, classes and stride")
    parser.add_argument("--weights", metavar="SOURCE",
                        help="bundled or published set, a file, or 'none' (random); default: bundled")
    parser.add_argument("--classes", type=cli.positive, help="number of classes; default: what the weights have")
    parser.add_argument("--size", type=cli.size, metavar="HxW", help="input size; default: the network's own")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="images to verify on; default: drawn frames")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for the artifact")
    return parser


def name_of(args: argparse.Namespace) -> str:
    """The network that `arguments` were given, as `request` takes it."""
    return f"{args.name}@{args.spec}" if args.spec else str(args.name)
