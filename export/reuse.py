"""Whether an exported file is still what an export would write now, so that it need not be written again."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.artifact import open_artifact
from runtime.errors import UserError

if TYPE_CHECKING:
    from export.target import Job

SOURCES = (Path(__file__).parent, Path(__file__).parent.parent / "calibration")
"""Our own code takes part in every export: a changed line makes a changed fingerprint."""


def fingerprint(name: str, job: Job) -> str:
    """SHA-256 of everything that decides what a target's `build` writes and verifies.

    The network's spec, parameters and buffers; output, precision and the other options; the versions of the tools; the
    text of our exporters; and the names, sizes and times of the frames for verification, calibration and accuracy.
    """
    from export.request import tools
    from export.target import HOST, target

    wanted, digest = job.request, hashlib.sha256()

    def add(*values: object) -> None:
        digest.update(json.dumps(values, default=str).encode())

    add(name, repr(wanted.spec), wanted.weights, wanted.output.value, wanted.precision, wanted.dynamic, wanted.simplify)
    add(job.allow_few, job.form, job.max_frames, job.max_drop, tools(*HOST, *target(name).packages))
    for key, tensor in wanted.network.state_dict().items():
        add(key, tuple(tensor.shape), str(tensor.dtype))
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    add(repr(wanted.network))  # a builder's choices: strides, activations
    theirs = {inspect.getsourcefile(type(module)) for module in wanted.network.modules()}  # a user's own, a library's
    ours = (path for folder in SOURCES for path in sorted(folder.rglob("*.py")))
    for path in [*ours, *sorted(Path(file) for file in theirs if file)]:
        add(path.name)
        digest.update(path.read_bytes())
    for folder in (job.frames, job.calibration, job.data):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()) if folder else ():
            add(path.name, path.stat().st_size, path.stat().st_mtime_ns)
    return digest.hexdigest()


def kept(name: str, job: Job) -> Path | None:
    """The artifact in `job.out` that was made by the same job, whole; None where there is none."""
    wanted = job.request
    sidecars = sorted(job.out.glob(f"{wanted.spec.name}-*{wanted.precision}*.json")) if job.out.is_dir() else []
    expected = fingerprint(name, job) if sidecars else ""
    for sidecar in sidecars:
        try:
            artifact, path = open_artifact(sidecar)
        except UserError:  # damaged, or no artifact: it is written again, over this one
            continue
        if artifact.target == name and artifact.details.get("fingerprint") == expected:
            return path
    return None
