"""What is to be quantised: a float artifact, or a network's name from which one is made first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.artifact import Artifact, open_artifact
from runtime.errors import GateFailed, UserError

if TYPE_CHECKING:
    import onnx


def float_artifact(text: str, folder: Path, options: list[str]) -> tuple[Artifact, Path]:
    """The float32 artifact to start from.

    A name is exported by the exporter's own command, in a process of its own: calibration imports nothing of the
    exporter, so that quantising a file needs no torch. This is the one place where the two meet.

    Args:
        text: an `.onnx` file with its JSON, or a network's name.
        folder: where a name's float32 artifact is made.
        options: further words for `python -m export.onnx`, such as ["--weights", "FILE"].

    Raises:
        UserError: no such file, not an artifact, not float32; or the exporter does not accept the name.
    """
    path = Path(text)
    if path.suffix != ".onnx":
        if path.exists():
            raise UserError(f"{text} was received; expected a network's name or an .onnx file")
        path = _exported(text, folder, options)
    elif options:
        raise UserError(f"{' '.join(options)} goes with a network's name; {text} has its weights and size already")
    artifact, engine = open_artifact(path)
    if artifact.target != "onnx" or artifact.precision != "fp32":
        raise UserError(f"{engine.name} is {artifact.precision} for {artifact.target}; expected a float32 .onnx file",
                        try_="python -m export.onnx NAME")
    return artifact, engine


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read a graph.

    Raises:
        UserError: the file is missing or not ONNX.
    """
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own error has no typed import; anything here means an unreadable file
        raise UserError(f"{path} cannot be read as ONNX ({type(error).__name__}: {error})") from error


def _exported(name: str, folder: Path, options: list[str]) -> Path:
    command = [sys.executable, "-m", "export.onnx", name, "--out", str(folder), *options]
    done = subprocess.run(command, text=True, capture_output=True)
    if done.returncode == UserError.exit_code:
        raise UserError(done.stderr.strip().removeprefix("export.onnx: error: "))
    if done.returncode:
        raise GateFailed(f"exporting {name} failed: {done.stderr.strip().splitlines()[-1] if done.stderr else '?'}",
                         try_=" ".join(command[1:]))
    return Path(done.stdout.strip().splitlines()[-1].split(": ")[0])
