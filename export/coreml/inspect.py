"""What is in an .mlpackage, and on a Mac: which processor Core ML would give each operation to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from export.coreml.package import CPU_ONLY, operations
from export.coreml.reference import read_package
from runtime.artifact import size_mb
from runtime.sessions.coreml import on_mac


def inspected(package: Path) -> list[str]:
    """Lines for people: operations by kind, what is known to stay on the CPU, and on a Mac where each kind runs.

    Raises:
        UserError: not a readable .mlpackage.
    """
    program = read_package(package)
    kinds = operations(program)
    lines = [f"{package.name}: {size_mb(package):.1f} MB, {program.opset}, {sum(kinds.values())} operations"]
    places = dict(_places(package)) if on_mac() else {}
    for kind, count in kinds.items():
        where = places.get(kind) or ("CPU only: " + CPU_ONLY[kind] if kind in CPU_ONLY else "")
        lines.append(f"{count:>6}  {kind:<28}{where}".rstrip())
    if not places:
        lines.append("Which of them run on the Neural Engine only a Mac can report (MLComputePlan): run this there.")
    return lines


def _places(package: Path) -> Iterator[tuple[str, str]]:
    """Kind → how many of its operations Core ML prefers to run where (MLComputePlan, macOS 14.4 and later)."""
    import coremltools as ct
    from coremltools.models.compute_plan import MLComputePlan

    compiled = ct.models.utils.compile_model(str(package))
    plan = MLComputePlan.load_from_path(path=compiled, compute_units=ct.ComputeUnit.ALL)
    found: dict[str, Counter[str]] = {}
    for op in plan.model_structure.program.functions["main"].block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(op)
        if usage is not None:  # constants have none
            found.setdefault(op.operator_name.split(".")[-1], Counter())[_device(usage.preferred_compute_device)] += 1
    for kind, devices in found.items():
        yield kind, ", ".join(f"{count} on {device}" for device, count in devices.most_common())


def _device(device: Any) -> str:
    """"MLNeuralEngineComputeDevice" → "Neural Engine"."""
    name = type(device).__name__
    return "Neural Engine" if "NeuralEngine" in name else "GPU" if "GPU" in name else "CPU"
