"""A network in, a verified ONNX file out: torch → ONNX → simplified → rewritten for the engines → (fp16)."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.request import Request, Say, arguments, name_of, request, tools
from runtime import cli
from runtime.artifact import OutputKind
from runtime.errors import UserError
from runtime.files import in_one_piece

if TYPE_CHECKING:
    import onnx

    from runtime.artifact import Artifact, Check
    from runtime.preprocess import Frame

OPSET = 18
"""The newest operator set that every engine we feed takes: GridSample is wrong in TensorRT from 20 on."""


def build(wanted: Request, out: Path, *, frames: Path | None = None, say: Say = lambda line: None) -> Path:
    """Export, verifying after every step.

    Args:
        wanted: what to export.
        out: folder for the `.onnx` file and its JSON; made when missing.
        frames: folder of images to verify on; None for frames that we draw.
        say: receives one line per step.

    Returns:
        The `.onnx` file's path.

    Raises:
        GateFailed: a step's output does not agree with the network's; nothing is left in `out`.
    """
    import onnx

    from export.onnx import fp16_ranges
    from export.onnx.graph import global_pool_from_reduce_mean, without_names_of_the_build
    from export.onnx.simplify import simplified
    from export.origins.onnx_network import OnnxNetwork
    from export.reference import torch_verifier
    from export.reuse import fingerprint
    from export.verify import FP16, FP32, describe

    details: dict[str, Any] = {"fingerprint": fingerprint(wanted, frames)}
    checks: list[Check] = []
    verifier = torch_verifier(wanted, frames)

    def verified(step: str, model: onnx.ModelProto, gate: Any) -> onnx.ModelProto:
        checks.append(verifier.check(step, _runner(model), gate))
        say(describe(checks[-1]))
        return model

    origin = "file" if isinstance(wanted.network, OnnxNetwork) else "torch"
    model = verified(f"onnx vs {origin}", onnx_from_file(wanted) if origin == "file" else onnx_from_torch(wanted), FP32)
    if wanted.simplify:
        model = verified(f"simplified vs {origin}", simplified(model), FP32)
    model = verified(f"rewritten vs {origin}", without_names_of_the_build(global_pool_from_reduce_mean(model)), FP32)
    if wanted.precision == "fp16":
        model, kept = fp16_ranges.float16_where_safe(model, [frame for _, frame in verifier.frames])
        say(fp16_ranges.describe(kept))
        details["kept_in_float32"] = [dataclasses.asdict(node) for node in kept]
        verified(f"fp16 vs {origin}", model, FP16)
    onnx.checker.check_model(model, full_check=True)

    out.mkdir(parents=True, exist_ok=True)
    return _write(wanted, model, tuple(checks), details, out / f"{wanted.stem}.onnx")


def onnx_from_torch(wanted: Request) -> onnx.ModelProto:
    """Write the network in its wrapper as an ONNX graph: uint8 [1, H, W, 3] "frame" → `wanted.output`."""
    import torch

    from export.wrapper import DECOMPOSITIONS, Deployable

    module = Deployable(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)
    frame = torch.zeros(1, *wanted.spec.preprocess.size, 3, dtype=torch.uint8)
    sizes = ({1: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO},) if wanted.dynamic else None
    with quiet():
        traced = torch.export.export(module, (frame,), dynamic_shapes=sizes).run_decompositions(DECOMPOSITIONS)
        program = torch.onnx.export(traced, dynamo=True, opset_version=OPSET, verbose=False,
                                    input_names=["frame"], output_names=[wanted.output.value])
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def onnx_from_file(wanted: Request) -> onnx.ModelProto:
    """A user's ONNX file with our input and output: uint8 [1, H, W, 3] "frame" → `wanted.output`."""
    from export.origins.onnx_network import OnnxNetwork, onnx_from_onnx

    assert isinstance(wanted.network, OnnxNetwork)
    if wanted.dynamic:
        raise UserError("--dynamic was asked for an ONNX file, whose own size holds", try_="leave --dynamic out")
    return onnx_from_onnx(wanted.network, wanted.spec, wanted.output)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself (torchvision missing, deprecated internals) off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _runner(model: onnx.ModelProto) -> Callable[[Frame], Any]:
    from runtime.sessions.onnx import OnnxSession

    return OnnxSession(model.SerializeToString()).run


def _write(wanted: Request, model: onnx.ModelProto, checks: tuple[Check, ...], details: dict[str, Any],
           path: Path) -> Path:
    """Write the engine under a temporary name, reopen it, rename it, and put its JSON beside it."""
    import onnx

    from runtime.artifact import engine_sha256, write_artifact
    from runtime.sessions.onnx import OnnxSession

    with in_one_piece(path) as temporary:
        onnx.save_model(model, temporary)
        OnnxSession(temporary).close()
        artifact = dataclasses.replace(_describe(wanted, model, checks, path.name, engine_sha256(temporary)),
                                       details=details)
    write_artifact(artifact, path)
    return path


def _describe(wanted: Request, model: onnx.ModelProto, checks: tuple[Check, ...], file: str, sha256: str) -> Artifact:
    from runtime.artifact import Artifact, Layout, TensorInfo

    height, width = (0, 0) if wanted.dynamic else wanted.spec.preprocess.size
    layouts: dict[OutputKind, Layout] = {OutputKind.LOW: "NHWC", OutputKind.LOGITS: "NCHW", OutputKind.CLASSES: "NHW"}
    out = model.graph.output[0]
    return Artifact(
        name=wanted.spec.name, target="onnx", precision=wanted.precision, file=file, sha256=sha256,
        input=TensorInfo(model.graph.input[0].name, (1, height, width, 3), "uint8", "NHWC"),
        output=TensorInfo(out.name, tuple(d.dim_value for d in out.type.tensor_type.shape.dim),
                          "uint8" if wanted.output is OutputKind.CLASSES else "float32", layouts[wanted.output]),
        output_kind=wanted.output, stride=wanted.spec.stride, align_corners=wanted.spec.align_corners,
        preprocess=wanted.spec.preprocess, classes=wanted.spec.classes.names, palette=wanted.spec.classes.palette,
        weights=wanted.weights, tools=tools("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime"),
        verification=checks)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m export.onnx`."""
    parser = arguments("export.onnx", "Export a network to a verified ONNX file.",
                       "python -m export.onnx lraspp --size 512x1024 --frames photos/")
    parser.add_argument("--output", choices=[k.value for k in OutputKind], default=OutputKind.LOW.value,
                        help="low: logits at the network's stride, for the exact mask; logits: full size; "
                             "classes: uint8 class map")
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32", help="arithmetic in the graph")
    parser.add_argument("--dynamic", action="store_true", help="let the frame decide height and width")
    parser.add_argument("--no-simplify", action="store_true", help="leave onnxsim out")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from export.weights import told

    cli.need("exporting", "export", "onnx", "torch")
    cli.check_folder(args.out)
    wanted = request(name_of(args), weights=args.weights, classes=args.classes, size=args.size,
                     output=OutputKind(args.output), precision=args.precision, dynamic=args.dynamic,
                     simplify=not args.no_simplify)
    path = build(wanted, args.out, frames=args.frames, say=print)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {told(wanted.weights)}")
    return 0
