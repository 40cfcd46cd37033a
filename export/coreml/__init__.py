"""A network in, a verified .mlpackage out, on any machine: torch → Core ML → (quantised), each step evaluated."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.onnx import quiet
from export.reference import torch_verifier
from export.request import Request, Say, arguments, name_of, request
from export.verify import FP16, FP32, Gate, describe
from runtime import cli
from runtime.artifact import OutputKind
from runtime.errors import GateFailed, MissingLibrary, UserError

if TYPE_CHECKING:
    from export.coreml.reference.session import ReferenceSession
    from export.verify import Verifier
    from runtime.artifact import Artifact, Check
    from runtime.sessions import Session

TARGETS = ("iOS16", "iOS17", "iOS18", "iOS26")
PRECISIONS = ("fp32", "fp16", "int8", "w8", "palette4", "palette6")
LOSSY_AGREEMENT = 0.9
"""Pixels that a compressed package must keep at the least; what it costs in mIoU is for `--data` to say."""


@dataclass(frozen=True)
class Options:
    """What only this target asks.

    Attributes:
        target: the oldest system that the package runs on.
        image: the input is an image (a camera's pixel buffer) rather than a multi-array.
        calibration: folder of images for INT8's activation ranges.
        allow_few: fewer than 32 of them will do.
        data: folder with images/ and labels/ to measure mIoU on.
        max_drop: points of mIoU that a compressed package may lose against the float network, 0..100.
        max_frames: labelled frames to measure on, evenly sampled; None for all.
    """

    target: str = "iOS17"
    image: bool = True
    calibration: Path | None = None
    allow_few: bool = False
    data: Path | None = None
    max_drop: float = 1.0
    max_frames: int | None = None


def build(wanted: Request, options: Options, out: Path, *, frames: Path | None = None,
          say: Say = lambda line: None) -> Path:
    """Export, evaluating the saved package after every step.

    Args:
        wanted: what to export; its precision is one of `PRECISIONS`.
        options: this target's own.
        out: folder for the package and its JSON; made when missing.
        frames: folder of images to verify on; None for frames that we draw.
        say: receives one line per step.

    Returns:
        The .mlpackage's path.

    Raises:
        GateFailed: the package does not compute what the network does, or loses too much mIoU; `out` is untouched.
        UserError: precision, target and data do not go together.
    """
    from export.coreml.package import CPU_ONLY, finished, planned, publish, save, size_mb
    from export.coreml.quantize import calibration_frames, compressed
    from runtime.artifact import engine_sha256, write_artifact

    frames_to_calibrate = calibration_frames(*_calibration(options)) if wanted.precision == "int8" else []
    verifier = torch_verifier(wanted, frames)
    artifact = planned(wanted, options.target, options.image)
    base = "fp32" if wanted.precision == "fp32" else "fp16"
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
        def verified(step: str, model: Any, gate: Gate) -> tuple[Path, ReferenceSession]:
            package = save(model, artifact, Path(folder) / f"{len(checks)}.mlpackage")
            session = _checked(step, package, verifier, gate, artifact, checks)
            say(f"{describe(checks[-1])}, {size_mb(package):.1f} MB")
            return package, session

        model = model_from_torch(wanted, options)
        package, session = verified(f"{base} vs torch", model, FP32 if base == "fp32" else FP16)
        if wanted.precision != base:
            model, record = compressed(model, wanted.precision, session, wanted.spec.preprocess, frames_to_calibrate)
            artifact = dataclasses.replace(artifact, calibration=record)
            package, session = verified(f"{wanted.precision} vs torch", model, Gate(agreement=LOSSY_AGREEMENT))
        artifact = dataclasses.replace(finished(artifact, session.evaluator.program, package),
                                       sha256=engine_sha256(package), verification=tuple(checks))
        for kind in artifact.details["cpu_only"]:
            say(f"{kind} runs on CPU only: {CPU_ONLY[kind]}")
        if options.data:
            artifact = _within_budget(artifact, session, wanted, options, say)
        publish(package, out / artifact.file)
    write_artifact(artifact, out / artifact.file)
    return out / artifact.file


def _calibration(options: Options) -> tuple[Path | None, bool]:
    if options.target == "iOS16":
        raise UserError("--precision int8 quantises activations, which Core ML has from iOS17 on; --target iOS16 was "
                        "asked for", try_="--precision w8, or --target iOS17")
    return options.calibration, options.allow_few


def model_from_torch(wanted: Request, options: Options) -> Any:
    """Convert the network in its wrapper: "image" → `wanted.output`, as an MLModel that is not loaded.

    FLOAT16 tensors unless `wanted.precision` is fp32.
    """
    import numpy as np
    import torch

    from export.wrapper import DECOMPOSITIONS, Deployable, PictureInput

    ct = _coremltools()
    shape = (1, 3, *wanted.spec.preprocess.size)
    module = PictureInput(Deployable(wanted.network, wanted.spec.preprocess, wanted.output,
                                     wanted.spec.align_corners)).eval()
    source = (ct.ImageType(name="image", shape=shape, color_layout=ct.colorlayout.BGR) if options.image
              else ct.TensorType(name="image", shape=shape, dtype=np.float32))
    result = ct.TensorType(name=wanted.output.value,
                           dtype=np.int32 if wanted.output is OutputKind.CLASSES else np.float32)
    with quiet():
        program = torch.export.export(module, (torch.zeros(shape),)).run_decompositions(DECOMPOSITIONS)
        return ct.convert(
            program, inputs=[source], outputs=[result], minimum_deployment_target=getattr(ct.target, options.target),
            compute_precision=ct.precision.FLOAT32 if wanted.precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True)


def _coremltools() -> Any:
    """Import coremltools without its remarks on other packages' versions."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        import coremltools
    except ImportError as error:
        raise MissingLibrary("coremltools", "exporting to Core ML", "export") from error
    return coremltools


def _checked(step: str, package: Path, verifier: Verifier, gate: Gate, artifact: Artifact,
             checks: list[Check]) -> ReferenceSession:
    """Reopen a saved package in the evaluator (and in Core ML, on a Mac), compare with torch, append the checks."""
    from export.coreml.reference.session import ReferenceSession
    from runtime.sessions.coreml import CoremlSession, on_mac

    session = ReferenceSession(package, artifact.output_kind)
    try:
        checks.append(verifier.check(step, _as_reference(session, artifact.output_kind), gate))
    except GateFailed as failure:
        where = session.first_overflow(verifier.frames[0][1])
        if where:
            raise GateFailed(f"{failure}; {where!r} is the first result beyond float16's 65504",
                             try_="--precision fp32") from failure
        raise
    if on_mac():
        mac = CoremlSession(package, artifact)
        checks.append(verifier.check(f"{step}, Core ML on this Mac", _as_reference(mac, artifact.output_kind), gate))
    return session


def _as_reference(session: Session, kind: OutputKind) -> Callable[[Any], Any]:
    """Low-resolution logits as the verifier's reference has them: classes last."""
    import numpy as np

    return lambda frame: np.moveaxis(session.run(frame), 1, 3) if kind is OutputKind.LOW else session.run(frame)


def _within_budget(artifact: Artifact, session: Session, wanted: Request, options: Options, say: Say) -> Artifact:
    """mIoU of the float network and of the package on labelled frames, held against the budget and noted down."""
    from export.accuracy import TorchSession, accuracy

    assert options.data is not None
    before = accuracy(artifact, TorchSession(wanted), options.data, options.max_frames).miou
    after = accuracy(artifact, session, options.data, options.max_frames)
    drop, interval = 100 * (before - after.miou), after.interval()
    say(f"mIoU {after.miou:.4f} (95 % {interval[0]:.4f} to {interval[1]:.4f}) on {len(after.frames)} frames; "
        f"torch fp32 {before:.4f}, lost {drop:+.2f} points")
    if drop > options.max_drop:
        raise GateFailed(f"{artifact.file} loses {drop:.2f} points of mIoU ({before:.4f} → {after.miou:.4f}); at most "
                         f"{options.max_drop:g} are allowed; nothing was written",
                         try_="--precision w8 or palette6, or a larger --max-drop")
    return dataclasses.replace(artifact, details={**artifact.details, "accuracy": {
        "miou": after.miou, "miou_interval": list(interval), "miou_torch_fp32": before, "frames": len(after.frames),
        "engine": "reference evaluator"}})


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m export.coreml`."""
    parser = arguments("export.coreml", "Export a network to a verified Core ML package, on any machine.",
                       "python -m export.coreml lraspp --precision int8 --calibration photos/")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16",
                        help="int8: weights and activations; w8: weights alone; palette4/6: weights as 16 or 64 values")
    parser.add_argument("--target", choices=TARGETS, default="iOS17", help="oldest system that the package runs on")
    parser.add_argument("--output", choices=[k.value for k in OutputKind], default=OutputKind.CLASSES.value,
                        help="classes: class map, what Xcode's preview shows; logits: full size; low: at the "
                             "network's stride")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--image", dest="image", action="store_true", default=True,
                      help="input is a pixel buffer, as cameras deliver it; the default")
    kind.add_argument("--tensor", dest="image", action="store_false", help="input is a multi-array")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images for INT8's activation ranges")
    parser.add_argument("--allow-few", action="store_true", help="calibrate with fewer than 32 images")
    parser.add_argument("--data", type=Path, metavar="DIR", help="images/ and labels/ to measure mIoU on")
    parser.add_argument("--max-drop", type=float, default=1.0, metavar="POINTS", help="mIoU that may be lost")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N",
                        help="labelled frames to measure on; default: all")
    parser.add_argument("--inspect", action="store_true",
                        help="NAME is an .mlpackage: list its operations and, on a Mac, where they run")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # coremltools' progress bars; tqdm reads it when torch imports it
    if args.inspect:
        from export.coreml.inspect import inspected

        _coremltools()
        print("\n".join(inspected(Path(args.name))))
        return 0
    from export.coreml.package import size_mb
    from export.weights import told
    from runtime.sessions.coreml import on_mac

    cli.need("exporting", "export", "onnx", "torch")
    _coremltools()
    cli.check_folder(args.out)
    options = Options(target=args.target, image=args.image, calibration=args.calibration, allow_few=args.allow_few,
                      data=args.data, max_drop=args.max_drop, max_frames=args.max_frames)
    wanted = request(name_of(args), weights=args.weights, classes=args.classes, size=args.size,
                     output=OutputKind(args.output), precision=args.precision)
    path = build(wanted, options, args.out, frames=args.frames, say=print)
    print(f"{path}: {size_mb(path):.1f} MB, {args.target} and later, {told(wanted.weights)}; "
          + ("verified in Core ML" if on_mac() else "evaluated here, never run on an Apple device"))
    return 0
