"""Train a network on labelled frames, from nothing or from weights that are there.

    python -m export.training.train lraspp --data ../shared/data/camvid --epochs 150 --out DIR

The recipe: AdamW with one warm-up and a cosine to zero, cross entropy with class weights plus a soft Jaccard term,
random scale, aspect, rotation, place, mirror and colours, and an exponential moving average of the weights, which is
what is kept. `--weights` starts from a checkpoint in place of random numbers: a second run of the schedule, or one's
own data. No epoch is chosen by its score: the last one counts, so that the score on `val` stays a measurement.

DIR gets NAME.safetensors (fp16) and its record NAME.json, a log NAME.jsonl, a curve NAME.png, and NAME.state.pt, from
which `--resume` continues after a kill, with the same outcome as an unbroken run, because everything random is drawn
from (seed, epoch, sample). Resumed with other --epochs, the rate follows the new schedule from there, and the record
says so.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.training.recipe import Recipe
from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    import torch


KINDS: dict[str, Callable[[str], Any]] = {"crop": cli.size, "epochs": cli.positive, "batch": cli.positive,
                                          "seed": cli.natural}
"""What a recipe's values are parsed with where their type alone would take too much."""


def device_from(name: str) -> torch.device:
    """"auto" is the first of CUDA, MPS and CPU that is there.

    Raises:
        UserError: the device is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(device for device, is_there in there.items() if is_there) if name == "auto" else name
    if not there[name]:
        raise UserError(f"--device {name} is not available here", try_="--device auto")
    return torch.device(name)


def train(args: argparse.Namespace) -> int:
    """The command."""
    cli.need("training", "export", "torch", "safetensors")
    cli.need("drawing the curve", "report", "matplotlib")  # now, not after the last epoch
    import torch

    from export import weights
    from export.origins import find
    from export.training import record, samples, score
    from export.training.trainer import Trainer

    origin = find(args.name)
    entry = origin.spec
    recipe = Recipe(**{key: getattr(args, key) for key in Recipe.__dataclass_fields__})
    data, classes = Path(args.data), len(entry.classes.names)
    everything = samples.load_samples(data / "train", classes)
    held = [s for s in everything if recipe.hold_out and s.stem.startswith(recipe.hold_out)]
    seen = [s for s in everything if s not in held] if held else everything
    if recipe.hold_out and not held:
        raise UserError(f"no training frame's name starts with {recipe.hold_out!r}",
                        try_=f"ls {data / 'train' / 'images'}")
    sets = {"val": samples.load_samples(data / "val", classes)} | ({"held out": held} if held else {})
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(recipe.seed)
    network = origin.load()
    start = weights.put(network, weights.read(origin, recipe.weights))
    teacher, taught = None, {}
    if recipe.teacher:
        model = find(recipe.teacher)
        if model.spec.classes != entry.classes:
            raise UserError(f"--teacher {model.spec.name} knows the classes {model.spec.classes.name}, "
                            f"{entry.name} {entry.classes.name}", try_="a teacher of the same classes")
        teacher = model.load()
        taught = {"teacher": weights.put(teacher, weights.read(model, None))}
    trainer = Trainer(entry, network, seen, recipe, device_from(args.device), compiled=not args.no_compile,
                      teacher=teacher)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    provenance = record.provenance(recipe, data, len(seen), trainer.device, args.terms)
    provenance |= {"start": start | record.history(entry, recipe.weights, start["sha256"]), **taught}
    state = out / f"{args.name}.state.pt"
    if args.resume:
        trainer.resume(state)
    while trainer.epoch < recipe.epochs:
        trainer.run_epoch(cli.status)
        if trainer.epoch % args.score_every == 0 or trainer.epoch == recipe.epochs:
            for name, frames in sets.items():
                trainer.log[-1][name] = round(score.score(trainer.average, entry, frames, trainer.device).miou, 5)
        trainer.save(state)
        record.write_log(out / f"{args.name}.jsonl", trainer.log)
    cli.status("")
    provenance |= {"epochs_done": trainer.epoch, "schedule_changes": trainer.changes}
    result = record.bundle(out, entry, trainer.average, provenance, sets, trainer.device)
    record.draw_curve(out / f"{args.name}.png", entry.name, trainer.log)
    print(f"{entry.name}: {trainer.epoch} epochs, val mIoU {result['scores']['val']['miou']:.4f}; "
          f"wrote {out / result['file']}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    command = cli.parser("export.training.train", "Train a network on labelled frames.",
                         "python -m export.training.train lraspp --data ../shared/data/camvid --epochs 150")
    command.add_argument("name", help="network, as `python -m export.models` lists them")
    command.add_argument("--data", required=True, metavar="DIR", help="holds train/ and val/, each images/ and labels/")
    command.add_argument("--out", default="build/train", metavar="DIR", help="where everything goes")
    command.add_argument("--resume", action="store_true", help="continue from the state in --out")
    command.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to train")
    command.add_argument("--threads", type=cli.natural, default=0, metavar="N", help="CPU threads; 0 lets torch decide")
    command.add_argument("--no-compile", action="store_true",
                         help="without fast depthwise gradients on a CPU, which need a C++ compiler: half as fast")
    command.add_argument("--score-every", type=cli.positive, default=10, metavar="N", help="epochs between two scores")
    command.add_argument("--terms", default="", help="the data's conditions of use; CamVid's where --data is CamVid")
    stated = dict(re.findall(r"^ +(\w+): (.+)\.$", Recipe.__doc__ or "", re.MULTILINE))
    for key, value in asdict(Recipe()).items():
        command.add_argument(f"--{key.replace('_', '-')}", type=KINDS.get(key, type(value)), default=value,
                             metavar={"crop": "HxW", "weights": "SOURCE", "teacher": "NAME"}.get(key), help=stated[key])
    return cli.run(train, command, argv)


if __name__ == "__main__":
    sys.exit(main())
