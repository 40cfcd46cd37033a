"""Combinations of GPU, driver, JetPack and TensorRT that are known not to work together.

`this_machine` looks; `problems` is a pure function of what it saw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from export.target import Problem
from runtime.errors import UserError
from runtime.sessions import installed
from runtime.sessions._cuda import Gpu, gpu

PACKAGES = ("tensorrt", "tensorrt-rtx-cu13", "cuda-bindings")

RTX_SERVES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities of TensorRT-RTX 1.7: no Jetson Orin (8.7), no Hopper (9.0)."""

FROM_NVIDIA = "TensorRT: from JetPack, or pip install tensorrt-cu13 --extra-index-url https://pypi.nvidia.com"


@dataclass(frozen=True)
class Machine:
    """What was seen.

    Attributes:
        packages: name → version of those of `PACKAGES` that are installed.
        gpu: the NVIDIA GPU, or why there is none.
        jetpack: major version on a Jetson; None elsewhere.
    """

    packages: Mapping[str, str]
    gpu: Gpu | str
    jetpack: int | None = None

    def major(self, package: str) -> int:
        """Of a package's version; 0 where it is not installed."""
        return int(self.packages.get(package, "0").split(".")[0])


def gpu_here() -> Gpu | str:
    """The GPU of this machine, or why there is none."""
    try:
        return gpu()
    except UserError as error:
        return error.what


def this_machine() -> Machine:
    """Look, without importing anything heavy."""
    release = Path("/etc/nv_tegra_release")
    return Machine(installed(PACKAGES), gpu_here(),
                   jetpack_from(release.read_text(encoding="utf-8")) if release.is_file() else None)


def jetpack_from(release: str) -> int | None:
    """JetPack's major version from /etc/nv_tegra_release: L4T R35 is JetPack 5, R36 is 6, R38 is 7."""
    match = re.search(r"R(\d+)", release)
    return {35: 5, 36: 6, 38: 7}.get(int(match[1])) if match else None


def problems(machine: Machine) -> list[Problem]:
    """What is known not to work together, with the fix."""
    found: list[Problem] = []
    native = machine.packages.get("tensorrt")
    if isinstance(machine.gpu, Gpu):
        found += _of_gpu(machine, machine.gpu)
    if machine.jetpack == 6 and machine.major("tensorrt") >= 11:
        found.append(Problem(f"TensorRT {native} does not run on JetPack 6, which has TensorRT 10",
                             "pip uninstall -y tensorrt, and `python3 -m venv --system-site-packages`"))
    if 0 < machine.major("tensorrt") < 10:
        found.append(Problem(f"TensorRT {native}: strongly typed networks need 10 or newer",
                             "JetPack 6 or newer, or a newer TensorRT"))
    return found


def _of_gpu(machine: Machine, gpu: Gpu) -> list[Problem]:
    found: list[Problem] = []
    driver = int(gpu.driver.split(".")[0])
    if machine.major("cuda-bindings") > driver:
        found.append(Problem(f"cuda-bindings {machine.packages['cuda-bindings']} is newer than the driver, which "
                             f"serves CUDA {gpu.driver}", f"pip install 'cuda-bindings=={driver}.*'"))
    only_rtx = "tensorrt-rtx-cu13" in machine.packages and "tensorrt" not in machine.packages
    if only_rtx and gpu.compute_capability not in RTX_SERVES:
        found.append(Problem(f"TensorRT-RTX does not serve {gpu.name} (compute capability {gpu.sm})", FROM_NVIDIA))
    return found
