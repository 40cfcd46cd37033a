"""What a .mlpackage says about itself, to us and to Xcode, and its bytes made reproducible."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.artifact import Artifact, OutputKind, size_mb, to_json
from runtime.sessions.coreml import on_mac

if TYPE_CHECKING:
    from export.coreml.reference import MilProgram
    from export.request import Request

PREVIEW = "com.apple.coreml.model.preview"
OURS = "edgeseg"
"""Key of the user-defined metadata that holds our artifact's JSON (without hash and figures, which come later)."""

CPU_ONLY = {"resample": "flow warp; Core ML has it neither for the GPU nor for the Neural Engine (coremltools#1875)"}
"""Operations that are known to leave the fast processors, and why."""

NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, appendix C: URLs


def planned(wanted: Request, target: str, image: bool) -> Artifact:
    """The artifact as far as it is known before anything is converted; it is embedded in the package.

    Args:
        wanted: what is to be exported.
        target: the oldest system, e.g. "iOS17".
        image: whether the input is an image or a multi-array.
    """
    from export.describe import described
    from export.request import tools

    classes = wanted.output is OutputKind.CLASSES
    height, width = wanted.spec.preprocess.size
    channels = () if classes else (len(wanted.spec.classes.names),)
    artifact = described(
        wanted, "coreml", tools=tools("torch", "coremltools"), shape=(1, *channels, height, width),
        names=("image", wanted.output.value), layout="NHW" if classes else "NCHW",
        details={"deployment_target": target, "licence": wanted.spec.licence, "input": "image" if image else "tensor",
                 "input_on_device": "pixel buffer (32BGRA, 420f, …), converted by Core ML" if image else
                 "float32 [1, 3, H, W], blue, green, red, 0..255",
                 "output_on_device": "int32" if classes else "float32"})
    return dataclasses.replace(artifact, file=f"{wanted.stem}{'' if image else '-tensor'}.mlpackage")


def finished(artifact: Artifact, program: MilProgram, package: Path) -> Artifact:
    """`planned`, with what the saved program shows: the output's shape, operations, and size."""
    kinds = operations(program)
    (declared,) = (kind for op in program.operations for name, kind in op.outputs if name == program.outputs[0])
    details = {**artifact.details, "opset": program.opset, "operations": kinds,
               "cpu_only": sorted(CPU_ONLY.keys() & kinds.keys()), "package_mb": round(size_mb(package), 3),
               "executed": "reference evaluator" + (" and Core ML" if on_mac() else ", never Core ML")}
    shape = tuple(size or 0 for size in declared.shape)
    return dataclasses.replace(artifact, output=dataclasses.replace(artifact.output, shape=shape), details=details)


def label(spec: Any, artifact: Artifact) -> None:
    """Fill in a model's protobuf, in place: descriptions, licence, labels and colours, preview, our JSON.

    Args:
        spec: coremltools' Model protobuf.
        artifact: the artifact to be; its hash and verification may be missing still.
    """
    text = spec.description.metadata
    height, width = artifact.preprocess.size
    trained = "" if artifact.weights["trained"] else " UNTRAINED: random weights."
    text.shortDescription = (f"{artifact.name}: semantic segmentation, {len(artifact.classes)} classes, "
                             f"{height}x{width}, {artifact.precision}.{trained}")
    text.author = "edgeseg"
    text.versionString = f"{artifact.tools.get('edgeseg', '0')} ({artifact.precision})"
    text.license = str(artifact.weights.get("terms") or artifact.details.get("licence", ""))
    (source,), (result,) = spec.description.input, spec.description.output
    picture = source.type.WhichOneof("Type") == "imageType"
    source.shortDescription = (f"Camera frame, {width} wide and {height} high" if picture else
                               f"float32 [1, 3, {height}, {width}], channels blue, green, red, 0..255")
    result.shortDescription = {
        OutputKind.CLASSES: f"int32 [1, {height}, {width}], class of every pixel",
        OutputKind.LOGITS: f"float32 [1, classes, {height}, {width}], scores before softmax",
        OutputKind.LOW: f"float32 [1, classes, rows, columns], scores for every {artifact.stride}th pixel",
    }[artifact.output_kind]
    metadata = text.userDefined
    metadata.pop("com.github.apple.coremltools.conversion_date", None)
    metadata[f"{PREVIEW}.type"] = "imageSegmenter"
    metadata[f"{PREVIEW}.params"] = json.dumps({
        "labels": list(artifact.classes), "colors": [f"#{r:02X}{g:02X}{b:02X}" for r, g, b in artifact.palette]})
    metadata["classes"] = ",".join(artifact.classes)
    metadata[OURS] = to_json(artifact)


def save(model: Any, artifact: Artifact, package: Path) -> Path:
    """Write a described .mlpackage whose bytes depend on its content alone.

    coremltools draws new UUIDs for every save, notes the date, orders the protobuf's maps by chance and adds a table
    for ExecuTorch's debugger; two exports would never have the same hash.

    Args:
        model: MLModel.
        artifact: see `label`.
        package: folder to write; must not exist.

    Returns:
        `package`.
    """
    model.save(str(package))
    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    manifest_path = package / "Manifest.json"
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    entries = manifest["itemInfoEntries"]
    root = entries[manifest["rootModelIdentifier"]]
    spec = model.get_spec()
    label(spec, artifact)
    (package / "Data" / root["path"]).write_bytes(spec.SerializeToString(deterministic=True))
    named = {str(uuid.uuid5(NAMESPACE, entry["path"])): entry for entry in entries.values()}
    manifest["itemInfoEntries"] = dict(sorted(named.items()))
    manifest["rootModelIdentifier"] = str(uuid.uuid5(NAMESPACE, root["path"]))
    manifest_path.write_text(json.dumps(manifest, indent=4) + "\n", encoding="utf-8")
    return package


def operations(program: MilProgram) -> dict[str, int]:
    """How often each operation occurs, constants aside, most frequent first."""
    return dict(Counter(op.kind for op in program.operations if op.kind != "const").most_common())
