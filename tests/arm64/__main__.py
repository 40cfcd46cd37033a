"""`make arm64`: everything an Arm64 machine must do, done under emulation and held against this machine.

    python -m tests.arm64 --data ../shared/data/camvid

FP32 must be the same; what INT8 loses on an engine and a processor model is reported. Emulated times say nothing about
an Arm machine's speed, so none are taken. It takes hours of two cores: each row is on the disk before the next, and the
same command goes on after the last one, until code, artifacts or frames have changed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from calibration.data.frames import evenly_spaced
from export.target import target
from runtime import cli
from runtime.artifact import open_artifact
from runtime.errors import EdgesegError, GateFailed, UserError
from runtime.files import write_text
from runtime.video import image_paths, read_image
from tests.arm64 import suite
from tests.arm64.suite import Row

NETWORKS = ("lraspp", "lraspp-small", "dfanet-a", "dfanet-b")
ENGINES = {"onnx": "onnx", "openvino": "onnx", "litert": "litert", "ncnn": "ncnn"}
"""Engines with an aarch64 wheel that needs no torch, and the target whose files they read."""
FLOAT_CPU = "max"
INT8_CPUS = ("cortex-a72", "cortex-a76", "max")
"""Without dot products, with them, and with 8-bit matrix products besides."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("tests.arm64", "Run edgeseg on an emulated Arm64 machine and compare its masks with x86's.",
                        "python -m tests.arm64 --networks lraspp-small --engines onnx")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"), metavar="DIR",
                        help="CamVid: val/images are segmented, train/images calibrate INT8")
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="NAMES", help="networks")
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="NAMES", help="engines")
    parser.add_argument("--frames", type=cli.positive, default=2, metavar="N", help="frames for each mask")
    parser.add_argument("--out", type=Path, default=Path("out/arm64"), metavar="DIR",
                        help="artifacts, masks, report.json and report.txt; what is there is used again")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    networks, engines = args.networks.split(","), args.engines.split(",")
    if unknown := set(engines) - set(ENGINES) | set(networks) - set(NETWORKS):
        raise UserError(f"{', '.join(sorted(unknown))} was asked for; known: {', '.join([*NETWORKS, *ENGINES])}")
    cli.check_folder(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    frames = save_frames(args.data, args.frames, args.out / "frames.npy")
    rows = _earlier(args.out / "report.json")
    if rows:
        print(f"{len(rows)} rows are there; those that hold no more are made again")
    files = {(precision, engine): partial(_artifacts, args, networks, precision, ENGINES[engine])
             for engine in engines for precision in ("fp32", "int8")
             if precision in target(ENGINES[engine]).precisions}
    for row in _rows(files, frames, args.out, {row.key for row in rows}):
        rows = [*(other for other in rows if other.key[:-1] != row.key[:-1]), row]
        print(line(row), flush=True)
        write_text(args.out / "report.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
        write_text(args.out / "report.txt", "\n".join(line(row) for row in rows) + "\n")
    if failed := [row for row in rows if row.passed is False]:
        raise GateFailed(f"{len(failed)} of {len(rows)} checks do not hold on Arm64, first: {line(failed[0])}")
    print(f"{len(rows)} checks on Arm64, emulated → {args.out}/report.txt")
    return 0


def _rows(files: Mapping[tuple[str, str], Callable[[], list[Path]]], frames: Path, out: Path,
          done: Collection[tuple[str, ...]]) -> Iterator[Row]:
    """Every row that is not among the keys in `done`; artifacts are made when their engine's turn comes."""
    if suite.key("import", FLOAT_CPU) not in done:
        yield suite.imports(FLOAT_CPU)
    yield from suite.runtime_tests(FLOAT_CPU, out, done)
    for (precision, engine), made in files.items():
        for cpu in (FLOAT_CPU,) if precision == "fp32" else INT8_CPUS:
            missing = [path for path in made() if suite.key("masks", cpu, engine, path, frames) not in done]
            if missing:
                yield from suite.masks(cpu, engine, missing, frames, out / "masks")


def _artifacts(args: argparse.Namespace, networks: Sequence[str], precision: str, room: str) -> list[Path]:
    return [artifact(args.out, name, precision, room, args.data) for name in networks]


def _earlier(report: Path) -> list[Row]:
    """Rows of runs before this one, but for those that failed."""
    found = json.loads(report.read_text("utf-8")) if report.exists() else []
    return [row for row in (Row(**values) for values in found) if row.passed is not False]


def line(row: Row) -> str:
    """A row as a person reads it."""
    word = {True: "ok", False: "FAILED", None: "noted"}[row.passed]
    return f"{word:7}{row.what:28}{row.cpu:12}{row.engine:10}{row.artifact:34}{row.said}"


def artifact(out: Path, name: str, precision: str, room: str, data: Path) -> Path:
    """A bundled network as a target's artifact in `out`, made by our own commands where it is not there yet."""
    path = out / f"{name}-360x480-{precision}{target(room).ending}"
    try:
        return open_artifact(path)[1]
    except EdgesegError:
        words = [f"export.{room}", name, "--precision", precision,
                 *(["--calibration", data / "train" / "images"] if precision == "int8" else [])]
        subprocess.run([sys.executable, "-m", *map(str, words), "--out", str(out)], check=False)
        return open_artifact(path)[1]


def save_frames(data: Path, count: int, path: Path) -> Path:
    """Frames of CamVid's val as one .npy, uint8 [N, H, W, 3] BGR."""
    images = evenly_spaced(image_paths(data / "val" / "images"), count)
    np.save(path, np.stack([read_image(image) for image in images]))
    return path


if __name__ == "__main__":
    sys.exit(main())
