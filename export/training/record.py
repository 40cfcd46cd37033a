"""What stays of a training: weights in fp16, a record of how they came about, a log and a curve."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.record import WeightsRecord, read_record
from runtime.errors import UserError
from runtime.files import in_one_piece, write_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from export.spec import ModelSpec
    from export.training.samples import Sample

ROOT = Path(__file__).parents[2]

CAMVID_TERMS = "CamVid (Brostow et al., 2009) is for non-commercial research; so are weights trained on it"


def provenance(recipe: Any, data: Path, frames: int, device: torch.device, terms: str) -> dict[str, Any]:
    """Recipe, commit, data and machine, as they are when training starts."""
    import torch

    is_camvid = "camvid" in str(data.resolve()).lower()
    return {
        "recipe": dataclasses.asdict(recipe), "commit": _commit(),
        "data": {"folder": data.resolve().name, "training_frames": frames},
        "terms": terms or (CAMVID_TERMS if is_camvid else ""),
        "machine": f"{platform.machine()}, {device.type}", "torch": torch.__version__,
    }


def history(entry: ModelSpec, source: str, sha256: str) -> dict[str, Any]:
    """How the weights that a training starts from came about: what the record beside them says, or nothing.

    Args:
        entry: the network.
        source: what `--weights` said: a name, or a path.
        sha256: of the weights; a record of other weights does not count.
    """
    from export.weights import bundled_sets

    for record in (*bundled_sets(entry), _beside(Path(source))):
        if record and record.sha256 == sha256:
            kept = ("recipe", "commit", "epochs_done", "schedule_changes", "start")
            return {key: value for key in kept if (value := getattr(record, key)) is not None}
    return {}


def _beside(path: Path) -> WeightsRecord | None:
    """The record beside weights; None where there is none, or a file of another kind, which is not our affair."""
    try:
        return read_record(path.with_suffix(".json"))
    except UserError:
        return None


def _commit() -> str:
    """The repository's commit, "+changes" where the working tree differs from it; empty outside a repository."""
    def git(*words: str) -> str:
        answer = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")


def bundle(out: Path, entry: ModelSpec, network: nn.Module, origin: Mapping[str, Any],
           sets: Mapping[str, Sequence[Sample]], device: torch.device) -> dict[str, Any]:
    """Write NAME.safetensors and NAME.json, in this order, each in one piece.

    The scores in the record are those of the fp16 weights that were written. `network` is rounded to them. A tensor
    beyond float16's range stays in float32, and the record names it: DFANet's attention multiplies features without
    bounds, and the variances that batch norms see behind it exceed 65504 (10⁵ in the bundled weights).

    Returns:
        The record.
    """
    import torch
    from safetensors.torch import save_file

    from export.training.score import score

    half = {key: _small(t).cpu().contiguous() for key, t in network.state_dict().items()}
    network.load_state_dict({key: t.to(torch.float32) if t.is_floating_point() else t for key, t in half.items()})
    names = entry.classes.names
    scores = {}
    for key, samples in sets.items():
        found = score(network, entry, samples, device)
        scores[key] = {"frames": found.frames, "miou": round(found.miou, 5),
                       "pixel_accuracy": round(found.pixel_accuracy, 5),
                       "iou": {n: None if math.isnan(v) else round(v, 5) for n, v in zip(names, found.iou)}}
    path = out / f"{entry.name}.safetensors"
    with in_one_piece(path) as temporary:
        save_file(half, temporary)
    record = {"network": entry.name, "file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
              "dtype": "float16", "float32": [key for key, t in half.items() if t.dtype == torch.float32],
              "classes": entry.classes.name, "date": datetime.date.today().isoformat(),
              "scores": scores, **origin}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_text(path.with_suffix(".json"), text)
    return record


def _small(tensor: Tensor) -> Tensor:
    """In float16 where all of it is within its range."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if bool(half.isfinite().all()) else tensor


def write_log(path: Path, log: Sequence[Mapping[str, Any]]) -> None:
    """One JSON line per epoch."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in log))


def draw_curve(path: Path, title: str, log: Sequence[Mapping[str, Any]]) -> None:
    """Loss and mIoU over epochs, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    loss = figure.add_subplot(title=title, xlabel="epoch", ylabel="training loss")
    loss.plot([line["epoch"] for line in log], [line["loss"] for line in log], color="0.5")
    right = loss.twinx()
    right.set_ylabel("mIoU")
    for key in ("val", "held out"):
        scored = [(line["epoch"], line[key]) for line in log if key in line]
        if scored:
            right.plot(*zip(*scored), marker="o", label=f"{key} {scored[-1][1]:.3f}")
    right.legend(loc="lower right")
    with in_one_piece(path) as temporary:
        figure.savefig(temporary, format="png")
