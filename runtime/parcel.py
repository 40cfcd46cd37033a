"""An artifact on its way to another machine, which may share no disk with this one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.artifact import engine_sha256, json_path, open_artifact
from runtime.files import cache_folder, in_one_piece


@dataclass(frozen=True)
class Parcel:
    """An engine and its JSON.

    Attributes:
        sha256: of the engine, as the JSON has it.
        name: of the engine's file or folder.
        files: contents by path relative to the folder that both lie in.
    """

    sha256: str
    name: str
    files: Mapping[str, bytes]

    def unpacked(self) -> Path:
        """The engine in this machine's cache, where it stays for the next time."""
        folder = cache_folder() / "artifacts" / self.sha256[:16]
        engine = folder / self.name
        if not (engine.exists() and json_path(engine).exists() and engine_sha256(engine) == self.sha256):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with in_one_piece(folder) as temporary:
                for name, data in self.files.items():
                    path = temporary / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
        return engine


def packed(path: str | Path) -> Parcel:
    """An artifact, read and checked as `open_artifact` does."""
    artifact, engine = open_artifact(path)
    files = [engine] if engine.is_file() else [file for file in sorted(engine.rglob("*")) if file.is_file()]
    contents = {os.fspath(file.relative_to(engine.parent)): file.read_bytes() for file in [*files, json_path(engine)]}
    return Parcel(artifact.sha256, engine.name, contents)
