"""What this machine can export to and run, and what on it is known not to work together.

`this_machine` looks; everything else is a pure function of what it saw.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runtime.cuda import Gpu, gpu
from runtime.errors import UserError

PACKAGES = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "onnxruntime-gpu", "openvino", "coremltools",
            "tensorrt", "tensorrt-rtx-cu13", "cuda-bindings", "numpy", "opencv-python", "opencv-python-headless")
"""What takes part anywhere, or gets in the way."""

RTX_SERVES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities of TensorRT-RTX 1.7: no Jetson Orin (8.7), no Hopper (9.0)."""


@dataclass(frozen=True)
class Machine:
    """What was seen.

    Attributes:
        system: e.g. "Linux x86_64".
        python: (major, minor).
        packages: name → version of those of `PACKAGES` that are installed.
        gpu: the NVIDIA GPU, or why there is none.
        jetpack: major version on a Jetson; None elsewhere.
        macos: e.g. "15.1"; "" elsewhere.
    """

    system: str
    python: tuple[int, int]
    packages: Mapping[str, str]
    gpu: Gpu | str
    jetpack: int | None = None
    macos: str = ""

    def has(self, *names: str) -> list[str]:
        """Those of `names` that are missing."""
        return [name for name in names if name not in self.packages]


@dataclass(frozen=True)
class Ability:
    """One thing to do here: its command, and why it cannot be done, or "" when it can; `remark` for both cases."""

    command: str
    hindrance: str
    remark: str = ""


@dataclass(frozen=True)
class Problem:
    """A combination that is known not to work, and what to type."""

    what: str
    fix: str


def this_machine() -> Machine:
    """Look, without importing anything heavy."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    try:
        found: Gpu | str = gpu()
    except UserError as error:
        found = error.what
    release = Path("/etc/nv_tegra_release")
    return Machine(f"{platform.system()} {platform.machine()}", sys.version_info[:2], packages, found,
                   _jetpack(release.read_text(encoding="utf-8")) if release.is_file() else None, platform.mac_ver()[0])


def _jetpack(release: str) -> int | None:
    """JetPack's major version from /etc/nv_tegra_release: L4T R35 is JetPack 5, R36 is 6, R38 is 7."""
    match = re.search(r"R(\d+)", release)
    return {35: 5, 36: 6, 38: 7}.get(int(match[1])) if match else None


def abilities(machine: Machine) -> list[Ability]:
    """What can be done, command by command."""
    here = isinstance(machine.gpu, Gpu)
    exporting = _missing(machine, "export", "torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")
    rtx, native = "tensorrt-rtx-cu13" in machine.packages, "tensorrt" in machine.packages
    if native and here:
        built = "TensorRT, for this GPU" + (", and TensorRT-RTX" if rtx else "")
    else:
        built = "TensorRT-RTX, for GPUs elsewhere: built, not executed" if not here else "TensorRT-RTX"
    no_builder = "" if rtx or (native and here) else "needs the GPU here" if native else "pip install 'edgeseg[trt]'"
    device = "" if here else str(machine.gpu)
    return [
        Ability("python -m export.onnx", exporting),
        Ability("python -m export.trt", exporting or no_builder, built),
        Ability("python -m export.coreml", exporting or _missing(machine, "export", "coremltools"),
                "" if machine.macos else "predicts on Macs only; read back and checked here"),
        Ability("python -m calibration", _missing(machine, "calibration", "onnx", "onnxruntime")),
        Ability("python -m runtime X.onnx", _missing(machine, "", "onnxruntime", "numpy")),
        Ability("python -m runtime X.plan", device or _missing(machine, "trt", "cuda-bindings")
                or ("" if rtx or native else "pip install 'edgeseg[trt]'")),
        Ability("python -m runtime X.mlpackage", "" if machine.macos else "needs macOS",
                f"macOS {machine.macos}" if machine.macos else ""),
    ]


def _missing(machine: Machine, extra: str, *names: str) -> str:
    absent = machine.has(*names)
    return f"{', '.join(absent)} not installed: pip install 'edgeseg{f'[{extra}]' if extra else ''}'" if absent else ""


def problems(machine: Machine) -> list[Problem]:
    """What is known not to work together, with the fix."""
    found: list[Problem] = []
    packages = machine.packages

    def problem(when: bool, what: str, fix: str) -> None:
        if when:
            found.append(Problem(what, fix))

    problem(not (3, 10) <= machine.python < (3, 13), f"Python {machine.python[0]}.{machine.python[1]}: edgeseg is made "
            "for 3.10 to 3.12", "make the environment with one of these")
    for one, other in (("opencv-python", "opencv-python-headless"), ("onnxruntime", "onnxruntime-gpu")):
        problem(not machine.has(one, other), f"{one} and {other} write the same files; one of them is half there",
                f"pip uninstall -y {one} {other} && pip install {one}")
    bindings = int(packages.get("cuda-bindings", "0").split(".")[0])
    if isinstance(machine.gpu, Gpu):
        driver = int(machine.gpu.driver.split(".")[0])
        problem(bindings > driver, f"cuda-bindings {packages.get('cuda-bindings')} is newer than the driver, which "
                f"serves CUDA {machine.gpu.driver}", f"pip install 'cuda-bindings=={driver}.*'")
        problem("tensorrt-rtx-cu13" in packages and "tensorrt" not in packages
                and machine.gpu.compute_capability not in RTX_SERVES,
                f"TensorRT-RTX does not serve {machine.gpu.name} (compute capability {machine.gpu.sm})",
                "TensorRT: from JetPack, or pip install tensorrt-cu13 --extra-index-url https://pypi.nvidia.com")
    native = int(packages.get("tensorrt", "0").split(".")[0])
    problem(machine.jetpack == 6 and native >= 11, f"TensorRT {packages.get('tensorrt')} does not run on JetPack 6, "
            "which has TensorRT 10", "pip uninstall -y tensorrt, and `python3 -m venv --system-site-packages`")
    problem(0 < native < 10, f"TensorRT {packages.get('tensorrt')}: strongly typed networks need 10 or newer",
            "JetPack 6 or newer, or a newer TensorRT")
    return found


def report(machine: Machine, able: list[Ability], found: list[Problem]) -> str:
    """All of it as text."""
    lines = [f"{machine.system}, Python {machine.python[0]}.{machine.python[1]}"
             + (f", macOS {machine.macos}" if machine.macos else "")
             + (f", JetPack {machine.jetpack}" if machine.jetpack else ""),
             f"GPU: {machine.gpu}" if isinstance(machine.gpu, Gpu) else f"GPU: none; {machine.gpu}",
             "packages: " + ", ".join(f"{name} {number}" for name, number in machine.packages.items()), ""]
    for ability in able:
        state = f"no   {ability.hindrance}" if ability.hindrance else f"yes  {ability.remark}"
        lines.append(f"{ability.command:30} {state}".rstrip())
    lines.append("")
    lines += [f"known not to work: {problem.what}. Try: {problem.fix}" for problem in found]
    return "\n".join([*lines, f"{sum(not a.hindrance for a in able)} of {len(able)} commands work here"
                      + (f", {len(found)} known problems" if found else "")])
