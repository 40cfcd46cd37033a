"""The artifact: an engine file and the JSON beside it, the sole contract between the host and the device."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import write_text
from runtime.preprocess import Interpolation, Preprocess

FORMAT = 1
"""Version of the JSON. A reader refuses any other number rather than guess."""


READERS = {"openvino": "onnx"}
"""Engines that no exporter writes for, and whose files they read."""


class OutputKind(str, Enum):
    """What the engine returns for a frame."""

    LOW = "low"  # float32 logits at the network's own stride; the exact mask is made from them on the host
    LOGITS = "logits"  # float32 logits at input size
    CLASSES = "classes"  # uint8 class map at input size


@dataclass(frozen=True)
class TensorInfo:
    """One tensor at the engine's border. A dimension of 0 is decided by the frame (dynamic)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class Check:
    """How well one step's output agrees with what went into it, over all verification frames.

    Attributes:
        step: what was compared, "<after> vs <before>".
        max_abs: largest absolute difference of logits; None, as the next two, where the output is a class map.
        max_rel: largest difference of logits relative to the reference's largest magnitude.
        cosine: smallest cosine similarity of a frame's logits.
        agreement: share of all pixels whose class is the same, 0..1.
        worst_frame: the frame with the lowest agreement, and that agreement.
        worst_agreement: agreement on that frame.
        frames: how many frames were compared.
        control: agreement with another network's output (other weights), which must be low for the check to mean
            anything.
    """

    step: str
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    agreement: float
    worst_frame: str
    worst_agreement: float
    frames: int
    control: float | None = None


@dataclass(frozen=True)
class Artifact:
    """Everything a device needs to know about an engine file.

    Attributes:
        name: the network's name.
        target: which exporter made it, and so which session opens it: "onnx", "trt", "coreml".
        precision: "fp32", "fp16", "int8", ...
        file: the engine's file name, always beside the JSON, never a path.
        sha256: of the engine file (of a sorted listing with contents where the engine is a folder).
        input: uint8 NHWC BGR.
        output: what `output_kind` says.
        stride: how many input pixels one cell of the low-resolution logits spans.
        align_corners: which convention of bilinear interpolation brings the logits to frame size.
        preprocess: input size, and the normalisation carried out inside the graph.
        classes: class names, index order.
        palette: one (R, G, B) per class.
        weights: "source", "sha256", "terms", and "trained" (false when random).
        tools: name and version of everything that took part in making the file.
        verification: one Check per step, in order.
        calibration: fingerprint and settings of the INT8 calibration; empty when there was none.
        details: what only this target knows (compute capabilities, deployment target, ...).
    """

    name: str
    target: str
    precision: str
    file: str
    sha256: str
    input: TensorInfo
    output: TensorInfo
    output_kind: OutputKind
    stride: int
    align_corners: bool
    preprocess: Preprocess
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    weights: Mapping[str, Any]
    tools: Mapping[str, str]
    verification: tuple[Check, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def engine_sha256(engine: Path) -> str:
    """SHA-256 of an engine: of the file, or of a folder's sorted relative names and contents (an .mlpackage)."""
    digest = hashlib.sha256()
    files = sorted(p for p in engine.rglob("*") if p.is_file()) if engine.is_dir() else [engine]
    for path in files:
        if engine.is_dir():
            digest.update(path.relative_to(engine).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def json_path(engine: Path) -> Path:
    """`x.onnx` → `x.onnx.json`, so that one network's engines for several targets lie side by side."""
    return engine.with_name(engine.name + ".json")


def to_json(artifact: Artifact) -> str:
    """The artifact as deterministic, human-readable JSON."""
    return json.dumps({"format": FORMAT, **dataclasses.asdict(artifact)}, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, origin: str = "artifact JSON") -> Artifact:
    """Read what `to_json` wrote.

    Raises:
        UserError: not JSON, another format version, or a field that is missing, unknown or out of place.
    """
    try:
        values = json.loads(text)
        version = values.pop("format")
        if version != FORMAT:
            raise UserError(f"{origin} has format {version!r}; this edgeseg reads format {FORMAT}",
                            try_="export the artifact again with this version")
        pre = values["preprocess"]
        values |= {
            "input": TensorInfo(**_tuples(values["input"])),
            "output": TensorInfo(**_tuples(values["output"])),
            "output_kind": OutputKind(values["output_kind"]),
            "preprocess": Preprocess(**_tuples(pre) | {"interpolation": Interpolation(pre["interpolation"])}),
            "classes": tuple(values["classes"]),
            "palette": tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
            "verification": tuple(Check(**check) for check in values["verification"]),
        }
        artifact = Artifact(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{origin} is not an edgeseg artifact ({type(error).__name__}: {error})",
                        try_="python -m export.onnx NAME, which writes one") from error
    if artifact.file != Path(artifact.file).name or artifact.file in {"", ".", ".."}:
        raise UserError(f"{origin} names the engine {artifact.file!r}; expected a plain file name beside the JSON")
    return artifact


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def write_artifact(artifact: Artifact, engine: Path) -> Path:
    """Write the JSON beside an engine file that is already in place; atomic.

    Returns:
        The JSON's path.
    """
    target = json_path(engine)
    write_text(target, to_json(artifact))
    return target


def open_artifact(path: str | Path, engine: str | None = None) -> tuple[Artifact, Path]:
    """Read and check an artifact.

    Args:
        path: the engine file or its JSON.
        engine: of `READERS`, to run the file with another engine than the one that it was exported for: it becomes the
            artifact's `target`. None, or the target itself, changes nothing.

    Returns:
        The artifact and the path of its engine, whose hash has been compared with the JSON's.

    Raises:
        UserError: a file is missing, the JSON is not ours, the hash differs, or `engine` does not read such files.
    """
    path = Path(path)
    sidecar = path if path.suffix == ".json" else json_path(path)
    if not sidecar.is_file():
        what = f"{sidecar} is missing beside {path}" if path.exists() else f"{path} does not exist"
        raise UserError(f"{what}; expected an engine and its JSON", try_="python -m export.onnx NAME --out DIR")
    try:
        text = sidecar.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{sidecar} cannot be read ({error}); expected an artifact's JSON") from error
    artifact = from_json(text, str(sidecar))
    file = sidecar.with_name(artifact.file)
    if not file.exists():
        raise UserError(f"{sidecar} describes {artifact.file}, which is not in {sidecar.parent}; expected it beside it",
                        try_=f"copy {artifact.file} there, or export {artifact.name} again")
    found = engine_sha256(file)
    if found != artifact.sha256:
        raise UserError(f"{file} has SHA-256 {found[:12]}…, its JSON says {artifact.sha256[:12]}…: the file was "
                        "changed or cut short", try_=f"export {artifact.name} again")
    if engine in (None, artifact.target):
        return artifact, file
    if READERS.get(str(engine)) != artifact.target:
        able = [artifact.target, *(name for name, read in READERS.items() if read == artifact.target)]
        raise UserError(f"--engine {engine} does not read {artifact.file}; expected {' or '.join(able)}")
    return dataclasses.replace(artifact, target=str(engine)), file
