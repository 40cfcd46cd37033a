"""What INT8 and BF16 lose on a processor with VNNI and bfloat16, which this machine has not: Sapphire Rapids, emulated
by Bochs.

    python -m tests.x86 --bochs bochs/bochs --networks lraspp-small --frames 2

Masks from there are held against FP32's from here, and against what the same file gives here. Emulated times say
nothing about a processor's speed, so none are taken. A frame takes minutes: each mask is on the disk before the next,
and the same command goes on after the last one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.data.frames import evenly_spaced
from calibration.data.labels import Pair, find_pairs, label_map, read_pairs
from calibration.judge.accuracy import confusion, miou
from runtime import Segmenter, cli
from runtime.artifact import open_artifact
from runtime.errors import EdgesegError, UserError
from runtime.files import in_one_piece, write_text
from runtime.video import read_image
from tests.arm64 import __main__ as arm64
from tests.x86 import inside, machine

RUNS = (("openvino", "int8"), ("openvino", "int8-openvino"), ("onnx", "int8-onnx"), ("openvino-bf16", "fp32"),
        ("openvino-bf16", "int8-openvino"))
"""Engine and form of the artifact."""

Mask = npt.NDArray[np.uint8]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("tests.x86", "Run INT8 and BF16 on an emulated processor and compare the masks with FP32's.",
                        "python -m tests.x86 --bochs bochs/bochs --networks lraspp --frames 4")
    parser.add_argument("--bochs", type=Path, required=True, metavar="PATH",
                        help="Bochs's program, 3.1 or newer; docs/int8.md says how it is built")
    parser.add_argument("--networks", default=",".join(arm64.NETWORKS), metavar="NAMES", help="networks")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"), metavar="DIR",
                        help="CamVid: val is segmented, train calibrates INT8")
    parser.add_argument("--frames", type=cli.positive, default=4, metavar="N", help="frames of val, evenly spaced")
    parser.add_argument("--out", type=Path, default=Path("out/x86"), metavar="DIR",
                        help="artifacts, masks and report.txt; what is there is used again")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    names = args.networks.split(",")
    if unknown := set(names) - set(arm64.NETWORKS):
        raise UserError(f"{', '.join(sorted(unknown))} was asked for; known: {', '.join(arm64.NETWORKS)}")
    machine.check(args.bochs)
    cli.check_folder(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    pairs = find_pairs(args.data / "val")
    chosen = set(evenly_spaced([pair.image for pair in pairs], args.frames))
    pairs = [pair for pair in pairs if pair.image in chosen]
    files = [(engine, artifact(args.out, name, form, args.data)) for name in names for engine, form in RUNS]
    _emulate(args, files, pairs)
    lines = []
    for engine, path in files:
        reference = artifact(args.out, open_artifact(path)[0].name, "fp32", args.data)
        lines.append(_line(args.out / "masks" / engine / path.name, engine, path, reference, pairs))
        print(lines[-1], flush=True)
    write_text(args.out / "report.txt", "\n".join(lines) + "\n")
    return 0


def artifact(out: Path, name: str, form: str, data: Path) -> Path:
    """A bundled network as `fp32`, `int8` or `int8-ENGINE` in `out`, made by our own commands where it is not there."""
    if not form.startswith("int8-"):
        return arm64.artifact(out, name, form, "onnx", data)
    path = out / f"{name}-360x480-{form}.onnx"
    try:
        return open_artifact(path)[1]
    except EdgesegError:
        subprocess.run([sys.executable, "-m", "calibration", name, "--data", str(data), "--engine",
                        form.removeprefix("int8-"), "--out", str(out)], check=False)
        return open_artifact(path)[1]


def _emulate(args: argparse.Namespace, files: Sequence[tuple[str, Path]], pairs: Sequence[Pair]) -> None:
    """Let the emulated machine make the masks that are not on the disk yet."""
    masks = args.out / "masks"
    job = [{"engine": engine, "artifact": path.name,
            "frames": [pair.image.name for pair in pairs
                       if not (masks / engine / path.name / f"{pair.image.name}.npy").exists()]}
           for engine, path in files]
    job = [one for one in job if one["frames"]]
    if not job:
        return
    beside = [file for _, path in files for file in (path, path.with_name(f"{path.name}.json"))]
    for said in machine.run(args.bochs, job, [*beside, *(pair.image for pair in pairs)], args.out / "pc"):
        print(*(said.get(key, "") for key in ("computes_in", "engine", "artifact", "frame")), flush=True)
        if "artifact" not in said:
            continue
        folder = masks / said["engine"] / said["artifact"]
        folder.mkdir(parents=True, exist_ok=True)
        if "kernels" in said:
            write_text(folder / "kernels.json", json.dumps(said["kernels"], indent=2) + "\n")
        else:
            with in_one_piece(folder / f"{said['frame']}.npy") as temporary, temporary.open("wb") as file:
                np.save(file, inside.unpacked(said))


def _line(folder: Path, engine: str, path: Path, reference: Path, pairs: Sequence[Pair]) -> str:
    """What one artifact lost there, as a person reads it."""
    float_artifact = open_artifact(reference)[0]
    labels = [label for *_, label in read_pairs(pairs, label_map("own", float_artifact.classes))]
    missing = [pair.image.name for pair in pairs if not (folder / f"{pair.image.name}.npy").exists()]
    if missing:
        raise UserError(f"{folder} has no mask of {missing[0]}; expected one of each frame, and {folder.parents[1]}/pc/"
                        "console.txt says how the job ended", try_="the same command, which goes on from there")
    there = [np.load(folder / f"{pair.image.name}.npy") for pair in pairs]
    here = engine.removesuffix("-bf16")
    images = tuple(pair.image for pair in pairs)
    float_masks, same_file = _masks(reference, here, images), _masks(path, here, images)
    lost = [miou(sum(confusion(label, mask, len(float_artifact.classes)) for label, mask in zip(labels, masks)))
            for masks in (float_masks, there, same_file)]
    shares = [100 * np.mean([np.mean(a == b) for a, b in zip(one, other)])
              for one, other in ((there, float_masks), (same_file, float_masks), (there, same_file))]
    return (f"{path.name:40}{engine:15}{len(pairs)} frames; as FP32: {shares[0]:.3f} % of pixels, "
            f"{100 * (lost[0] - lost[1]):.3f} points lost; here {shares[1]:.3f} %, {100 * (lost[0] - lost[2]):.3f}; "
            f"there as here {shares[2]:.3f} %")


@cache
def _masks(path: Path, engine: str, images: tuple[Path, ...]) -> list[Mask]:
    """Masks from this machine, made once for all lines that compare with them."""
    with Segmenter.open(path, engine=engine) as segmenter:
        return [segmenter(read_image(image)).mask for image in images]


if __name__ == "__main__":
    sys.exit(main())
