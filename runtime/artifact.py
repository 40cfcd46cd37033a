"""The artifact: an engine file and the JSON beside it, the sole contract between the host and the device."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from runtime import decode
from runtime.contract import contradictions
from runtime.decode import Byte, Count, Dimension, FileName, Number, Sha256, Share, Text, Word
from runtime.errors import UserError
from runtime.files import in_one_piece, write_text
from runtime.forms import Integers
from runtime.preprocess import Preprocess
from runtime.signals import Held

FORMAT = 2
"""Version of the JSON. Format 1 lacks `integers`, and knew no others than signed ones; any other number is refused
rather than guessed at."""

Layout = Literal["NHWC", "NCHW", "NHW"]
Stride = Annotated[int, Meta(ge=1, le=1024)]


class OutputKind(str, Enum):
    """What the engine returns for a frame."""

    LOW = "low"  # float32 logits at the network's own stride; the exact mask is made from them on the host
    LOGITS = "logits"  # float32 logits at input size
    CLASSES = "classes"  # uint8 class map at input size


@dataclass(frozen=True)
class TensorInfo:
    """One tensor at the engine's border. A dimension of 0 is decided by the frame (dynamic)."""

    name: Text
    shape: Annotated[tuple[Dimension, ...], Meta(min_length=3, max_length=4)]
    dtype: Literal["uint8", "float32"]
    layout: Layout


class Weights(TypedDict):
    """Where the weights come from: "" as `sha256` where there is no file, `trained` false where they are random."""

    source: str
    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$(?!\n)")]
    trained: bool
    terms: str


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
    max_abs: Number | None
    max_rel: Number | None
    cosine: Number | None
    agreement: Share
    worst_frame: str
    worst_agreement: Share
    frames: Count
    control: Share | None = None


@dataclass(frozen=True)
class Artifact:
    """Everything a device needs to know about an engine file.

    Attributes:
        name: the network's name.
        target: the target that it was made for, which is the file's format: the name of a folder of `export/`. Which
            engines open it is for `runtime.sessions` to say.
        precision: "fp32", "fp16", "int8", ...
        integers: how activations stand in an INT8 graph: "signed" (symmetric int8) or "unsigned" (uint8 with
            zero-points); "" where there are none, or the format has one way only.
        file: the engine's file name, always beside the JSON, never a path.
        sha256: of the engine file (of a sorted listing with contents where the engine is a folder).
        input: uint8 NHWC BGR.
        output: what `output_kind` says.
        stride: how many input pixels one cell of the low-resolution logits spans.
        align_corners: which convention of bilinear interpolation brings the logits to frame size.
        preprocess: input size, and the normalisation carried out inside the graph.
        classes: class names, index order.
        palette: one (R, G, B) per class.
        weights: where they come from.
        tools: name and version of everything that took part in making the file.
        verification: one Check per step, in order.
        calibration: fingerprint and settings of the INT8 calibration; empty when there was none.
        details: what only this target knows (compute capabilities, deployment target, ...).
    """

    name: Text
    target: Word
    precision: Word
    file: FileName
    sha256: Sha256
    input: TensorInfo
    output: TensorInfo
    output_kind: OutputKind
    stride: Stride
    align_corners: bool
    preprocess: Preprocess
    classes: Annotated[tuple[Text, ...], Meta(min_length=2, max_length=255)]
    palette: Annotated[tuple[tuple[Byte, Byte, Byte], ...], Meta(min_length=2, max_length=255)]
    weights: Weights
    tools: Mapping[str, str]
    integers: Integers = ""
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
        UserError: not JSON, another format version, a field that is missing, unknown, of another type or out of its
            range, or fields that contradict one another.
    """
    return _artifact(_values(text, origin), origin)


def _values(text: str, origin: str) -> dict[str, Any]:
    """The JSON object, its format checked and taken out."""
    try:
        values = decode.decoded(dict[str, Any], decode.parsed(text))
        version = values.pop("format")
    except (ValueError, KeyError) as error:
        raise _not_ours(origin, error) from error
    if type(version) is not int or version not in (1, FORMAT):
        raise UserError(f"{origin} has format {reprlib.repr(version)}; this edgeseg reads formats 1 and {FORMAT}",
                        try_="export the artifact again with this version")
    if version == 1 and "integers" not in values:
        signed = (values.get("target"), values.get("precision")) == ("onnx", "int8")
        values["integers"] = "signed" if signed else ""
    return values


def _artifact(values: Mapping[str, Any], origin: str) -> Artifact:
    try:
        artifact = decode.decoded(Artifact, values)
    except ValueError as error:
        raise _not_ours(origin, error) from error
    for contradiction in contradictions(artifact):
        raise UserError(f"{origin} contradicts itself: {contradiction}", try_=f"export {artifact.name} again")
    return artifact


def _not_ours(origin: str, error: Exception) -> UserError:
    reason = f"no key {error}" if isinstance(error, KeyError) else error
    return UserError(f"{origin} is not an edgeseg artifact ({reason})",
                     try_="python -m export.onnx NAME, which writes one")


def write_artifact(artifact: Artifact, engine: Path) -> Path:
    """Write the JSON beside an engine file that is already in place; atomic.

    Returns:
        The JSON's path.

    Raises:
        UserError: `from_json` would refuse it.
    """
    target, text = json_path(engine), to_json(artifact)
    from_json(text, str(target))
    write_text(target, text)
    return target


def publish(artifact: Artifact, path: Path, write: Callable[[Path], None],
            check: Callable[[Artifact, Path], Artifact] = lambda artifact, _: artifact) -> Artifact:
    """Put an engine's file or folder and its JSON in place; each is whole or not there.

    Args:
        artifact: everything but file name and hash.
        path: where the engine goes; its folder is made when missing.
        write: writes it under the temporary name that it is given.
        check: reopens what was written, the artifact with its hash in hand; what it raises leaves nothing behind, and
            what it returns is what the JSON says.

    Returns:
        The artifact as its JSON has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with Held() as hold:  # a signal between the two renames would leave an engine without its JSON
        with in_one_piece(path) as temporary, hold.lifted():
            write(temporary)
            artifact = check(dataclasses.replace(artifact, file=path.name, sha256=engine_sha256(temporary)), temporary)
        write_artifact(artifact, path)
    return artifact


def size_mb(engine: Path) -> float:
    """Bytes of an engine's file, or of all files of its folder, in 10⁶."""
    return sum(path.stat().st_size for path in ([engine] if engine.is_file() else engine.rglob("*"))
               if path.is_file()) / 1e6


def open_artifact(path: str | Path) -> tuple[Artifact, Path]:
    """Read and check an artifact.

    Args:
        path: the engine file or its JSON.

    Returns:
        The artifact and the path of its engine, whose hash has been compared with the JSON's.

    Raises:
        UserError: a file is missing, the JSON is not ours, or the hash differs.
    """
    path = Path(path)
    sidecar = path if path.suffix == ".json" else json_path(path)
    if not sidecar.is_file():
        what = f"{sidecar} is missing beside {path}" if path.exists() else f"{path} does not exist"
        raise UserError(f"{what}; expected an engine and its JSON", try_="python -m export.onnx NAME --out DIR")
    try:
        text = decode.read(sidecar)
    except (OSError, ValueError) as error:
        raise UserError(f"{sidecar} cannot be read ({error}); expected an artifact's JSON") from error
    values = _values(text, str(sidecar))
    file = _sealed(values, sidecar)
    artifact = _artifact(values, str(sidecar))
    return artifact, file


@dataclass(frozen=True)
class _Seal:
    """All of the JSON that is used before the engine's hash has been compared."""

    file: FileName
    sha256: Sha256


def _sealed(values: Mapping[str, Any], sidecar: Path) -> Path:
    """The engine that the JSON names, when it is there and has the hash that the JSON says."""
    try:
        seal = decode.decoded(_Seal, values, part=True)
    except ValueError as error:
        raise _not_ours(str(sidecar), error) from error
    file = sidecar.with_name(seal.file)
    if not os.path.exists(file):
        raise UserError(f"{sidecar} describes {seal.file}, which is not in {sidecar.parent}; expected it beside it",
                        try_=f"copy {seal.file} there, or export the network again")
    found = engine_sha256(file)
    if found != seal.sha256:
        raise UserError(f"{file} has SHA-256 {found[:12]}…, its JSON says {seal.sha256[:12]}…: the file was "
                        "changed or cut short", try_="export the network again")
    return file
