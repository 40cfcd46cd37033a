"""Our INT8 against other quantisers' from the same calibration frames, on every engine that reads ONNX; in one table.

    python -m benchmarks int8 lraspp-small --data ../shared/data/camvid/val --against nncf,onnxruntime

All files come from one float32 file and are measured in turn within one run, each in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.engines import Offer, add_flags, measured, offer, planned
from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    import onnx

    from benchmarks.page.candidates import Candidate
    from benchmarks.plan import Say, Sweep, SweepItem
    from calibration.data.coverage import Chosen
    from runtime.artifact import Artifact

GRAPHS = "onnx"
"""The target whose files all of these quantisers write."""


def nncf_default(artifact: Artifact, path: Path, chosen: Chosen) -> onnx.ModelProto:
    """NNCF's post-training quantisation as it comes: mixed preset, fast bias correction."""
    import logging

    import nncf
    import onnx

    nncf.set_log_level(logging.WARNING)
    frames = nncf.Dataset(range(len(chosen.paths)), lambda index: {artifact.input.name: chosen.read(index)})
    model: onnx.ModelProto = nncf.quantize(onnx.load(path), frames, subset_size=len(chosen.paths))
    return model


def onnxruntime_static(artifact: Artifact, path: Path, chosen: Chosen) -> onnx.ModelProto:
    """ONNX Runtime's static quantisation as it advises for x86: Q/DQ, unsigned activations, a scale for each channel
    of signed weights; ranges are minimum and maximum, its default."""
    import onnx

    from runtime.sessions.onnx import library

    quantization = importlib.import_module(f"{library().__name__}.quantization")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        quantization.quantize_static(
            path, written, _reader(quantization.CalibrationDataReader, artifact.input.name, chosen),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
        return onnx.load(written)


def _reader(base: Any, name: str, chosen: Chosen) -> Any:
    """Calibration frames as ONNX Runtime's quantiser takes them: one dictionary after the other, then None."""
    frames = ({name: chosen.read(index)} for index in range(len(chosen.paths)))
    return type("Frames", (base,), {"get_next": lambda self: next(frames, None)})()


OTHERS: dict[str, Callable[[Artifact, Path, Chosen], onnx.ModelProto]] = {
    "nncf": nncf_default, "onnxruntime": onnxruntime_static}
"""The package of a quantiser that is not ours → what it makes of a float32 file and calibration frames."""


def quantisers(text: str) -> list[str]:
    """Parse "nncf,onnxruntime"."""
    found = text.split(",")
    if unknown := [name for name in found if name not in OTHERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no quantiser; expected some of {', '.join(OTHERS)}")
    return found


def made(candidate: SweepItem, sweep: Sweep, say: Say) -> Path:
    """A candidate's artifact, used again where it is there: ours by its own command's recipe, or another quantiser's.

    Raises:
        UserError, GateFailed: it cannot be made.
    """
    import onnx

    from benchmarks.sweep import exported
    from calibration.data.coverage import choose
    from calibration.request import CalibrationRequest
    from runtime.artifact import json_path, open_artifact, publish
    from runtime.sessions import installed

    if candidate.form not in OTHERS:
        return exported(candidate, sweep, say)
    artifact, source = open_artifact(exported(dataclasses.replace(candidate, precision="fp32", form=""), sweep, say))
    if sweep.calibration is None:
        raise UserError(f"{candidate} needs images to calibrate with", try_="--calibration DIR")
    chosen = choose(sweep.calibration, CalibrationRequest.frames, artifact.preprocess)
    record = {"quantiser": candidate.form, "fingerprint": chosen.fingerprint, "frames": len(chosen.paths),
              "from_sha256": artifact.sha256}
    wanted = dataclasses.replace(
        artifact, precision="int8", integers="unsigned", verification=(), details={}, calibration=record,
        tools={**artifact.tools, **installed((candidate.form,))})
    path = sweep.out / f"{artifact.name}-{candidate.size_text}-int8-{candidate.form}{source.suffix}"
    if json_path(path).is_file():
        there, _ = open_artifact(path)
        if dataclasses.replace(there, file=artifact.file, sha256=artifact.sha256) == wanted:
            return path
    say(f"{candidate}: {len(chosen.paths)} calibration frames")
    model = OTHERS[candidate.form](artifact, source, chosen)
    publish(wanted, path, lambda temporary: onnx.save_model(model, temporary))
    return path


def duels(found: Sequence[Candidate]) -> list[str]:
    """On each engine, the fastest of our INT8 files against each of the others'."""
    lines = []
    for engine in dict.fromkeys(c.latency.engine for c in found):
        int8 = [c for c in found if (c.latency.engine, c.latency.precision) == (engine, "int8")]
        ours = [c for c in int8 if c.latency.details.get("form") not in OTHERS]
        lines += [_duel(min(ours, key=lambda c: c.p50), other) for other in int8 if ours and other not in ours]
    return lines


def _duel(ours: Candidate, other: Candidate) -> str:
    from benchmarks.page.turns import kept, lost, ratio, short

    times, low, high = ratio(ours, other)
    return (f"{short(ours)} takes {times:.2f} [{low:.2f}, {high:.2f}] times as long as {short(other)}, loses "
            f"{lost(ours)} points against {lost(other)}, keeps {kept(ours)} of pixels against {kept(other)}")


def summary(sweep: Sweep, found: Sequence[Candidate], refused: Sequence[str], max_ms: float | None,
            max_drop: float) -> str:
    """The table, engine by engine, each file against float32 there; the duels; and the sentence."""
    from benchmarks.page.turns import sentence, table
    from benchmarks.page.verdict import verdict

    floats = {c.latency.engine: c for c in found if c.latency.precision == "fp32"}
    by_engine = sorted((c for c in found if c.latency.engine in floats), key=lambda c: (c.latency.engine, c.p50))
    return "\n".join([table(by_engine, lambda c: floats[c.latency.engine], "float32 there"), *refused, *duels(found),
                      f"the rows: python -m benchmarks report {sweep.rows}",
                      sentence(verdict(found, max_ms, max_drop))])


def command(args: argparse.Namespace) -> int:
    """Quantise, measure, summarise."""
    from benchmarks.plan import SweepItem, forms

    for name in args.against:
        cli.need(f"python -m benchmarks int8 --against {name}", "dev", name)
    everything = offer(elsewhere=args.on is not None)
    offered = Offer({GRAPHS: everything.engines[GRAPHS]}, everything.unable)
    sweep, size = planned(args, offered)
    kinds = [("fp32", ""), *(("int8", form) for form in [*forms("int8", offered.engines[GRAPHS]), *args.against])]
    found, refused = measured(sweep, [SweepItem(args.name, size, GRAPHS, precision, args.weights, form)
                                      for precision, form in kinds], made)
    print("\n" + summary(sweep, found, refused, args.max_ms, args.max_drop))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks int8`."""
    parser = cli.parser("benchmarks int8", "Measure our INT8 against other quantisers' from the same calibration "
                        "frames: time, mIoU, pixels kept and size on every engine that reads ONNX.",
                        "python -m benchmarks int8 lraspp-small --data ../shared/data/camvid/val --against nncf")
    add_flags(parser, "out/int8")
    parser.add_argument("--against", type=quantisers, default=["onnxruntime"], metavar="NAME,...",
                        help=f"other quantisers, of {', '.join(OTHERS)}; what they need is in the extra dev")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
