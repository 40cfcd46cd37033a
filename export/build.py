"""Export to any target: the artifact that is there already where nothing has changed, else a new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from export.reuse import fingerprint, kept
from export.target import Job, packages
from runtime.artifact import open_artifact, write_artifact


def build(name: str, job: Job, *, reuse: bool = True) -> Path:
    """Export to a target, and note in the artifact what decided it.

    Args:
        name: the target's.
        job: what to export.
        reuse: take the artifact that is there already where nothing that decides it has changed.

    Returns:
        The engine's file or folder, its JSON beside it.

    Raises:
        UserError, GateFailed: as the target's own `build` does; nothing is left half-written.
    """
    if reuse and (path := kept(name, job)):
        job.say(f"{path}: unchanged, used again")
        return path
    artifact, path = open_artifact(packages()[name].build(job))
    write_artifact(replace(artifact, details={**artifact.details, "fingerprint": fingerprint(name, job)}), path)
    return path
