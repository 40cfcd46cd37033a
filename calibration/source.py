"""What is to be quantised: a float artifact, or a network's name from which one is made first."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.artifact import Artifact, open_artifact
from runtime.errors import GateFailed, UserError

if TYPE_CHECKING:
    import onnx


def float_artifact(text: str, folder: Path, options: list[str]) -> tuple[Artifact, Path]:
    """The float32 artifact to start from.

    A name is exported by the exporter's own command.

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
        raise UserError(f"{path} cannot be read as ONNX ({type(error).__name__}: {error})",
                        try_="python -m export.onnx NAME, which writes such files") from error


def _exported(name: str, folder: Path, options: list[str]) -> Path:
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as temporary:
        record = Path(temporary) / "made.json"
        run_exporter(["export.onnx", name, "--out", str(folder), "--json", str(record), *options])
        return Path(json.loads(record.read_text(encoding="utf-8"))["artifact"])


def run_exporter(words: list[str], show: Callable[[str], None] = lambda line: None) -> str:
    """Run one of the exporter's commands in a process of its own.

    Calibration imports nothing of the exporter, so that quantising a file needs no torch. This is the one place where
    the two meet. Where this process is interrupted, the other one ends with it.

    Args:
        words: what follows `python -m`.
        show: receives every line of its output at once.

    Returns:
        The last line of its output.

    Raises:
        UserError, GateFailed: as the command does.
    """
    last = ""
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            [sys.executable, "-m", *words], text=True, stdout=subprocess.PIPE, stderr=errors) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = line.strip()
                show(last)
        except BaseException:
            process.terminate()
            raise
        code = process.wait()
        errors.seek(0)
        last_lines = errors.read().strip().splitlines() or ["?"]
    if code == UserError.exit_code:
        raise UserError(last_lines[-1].removeprefix(f"{words[0]}: error: "))
    if code:
        raise GateFailed(f"python -m {' '.join(words)} failed: {last_lines[-1].removeprefix(f'{words[0]}: error: ')}")
    return last
