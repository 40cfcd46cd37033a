"""An Arm64 Linux in a folder, of Debian's packages and PyPI's wheels, run by qemu on this machine: no root, no chroot.

    python -m tests.arm64.root          builds it in the user's cache folder and names its interpreters
    python -m tests.arm64.root --pin    writes wheels.txt and every debs.txt anew, with today's versions and hashes

Everything that is unpacked is named in debs.txt and wheels.txt with its SHA-256; what the cache holds is used again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.errors import UserError
from runtime.files import cache_folder, write_text
from tests import debian

HERE = Path(__file__).parent
DEBS, WHEELS = HERE / "debs.txt", HERE / "wheels.txt"
PROJECT = HERE.parent.parent
MORE = ("openvino", "ai-edge-litert", "ncnn", "av", "onnx", "pytest")  # engines, recording, and what the tests need

CPUS = {
    "cortex-a53": ("0xd03", ""),
    "cortex-a72": ("0xd08", ""),
    "cortex-a76": ("0xd0b", " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"),
    "max": ("0xd40", " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp sve i8mm bf16"),
}
"""qemu's `-cpu` models: part number, and features beyond Armv8.0's in /proc/cpuinfo. `asimddp` is the dot product."""

WITHOUT = {"max": ",sme=off"}
"""What a model goes without: qemu 7.2 computes three of four results of SMOPA, SME's product of bytes, wrongly (held
against Arm's manual on random bytes), and LiteRT's INT8 with them."""

CORES = 2
LIBRARIES = "/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu"
PLATFORMS = ("manylinux_2_35_aarch64", "manylinux_2_31_aarch64", "manylinux_2_28_aarch64", "manylinux_2_27_aarch64",
             "manylinux_2_26_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
FOREIGN = ["--only-binary=:all:", "--python-version=311", "--implementation=cp",
           *(f"--platform={platform}" for platform in PLATFORMS)]
"""What tells pip that it works for Debian 12 on Arm64."""


def interpreter(cpu: str, *, base: bool = False) -> Path:
    """A Python of the emulated machine, an executable file that also its own child processes can start.

    Args:
        cpu: one of `CPUS`.
        base: sees the base install alone, not the other engines.

    Raises:
        UserError: the root is not there and cannot be built here.
    """
    return _root() / f"python-{cpu}{'-base' if base else ''}"


def _root() -> Path:
    """The folder of the built root; built where it is not there yet, in one piece."""
    key = hashlib.sha256(DEBS.read_bytes() + WHEELS.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "arm64" / key
    if folder.is_dir():
        return folder
    _check_machine()
    downloads = cache_folder() / "arm64" / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    growing = folder.with_name(f".{key}.{os.getpid()}.tmp")
    try:
        growing.mkdir()
        for deb in debian.debs(DEBS, downloads):
            part = "host" if deb.name.endswith("_amd64.deb") else "root"
            debian.run(["dpkg-deb", "--extract", deb, growing / part])
        for wheel in _wheels(downloads):
            based = wheel.name.lower().split("-")[0].replace("_", "-") in _needed_by_base()
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(growing / "site" / ("base" if based else "more"))
        for cpu in CPUS:
            _add_cpu(growing, folder, cpu)
        growing.rename(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return folder


def _check_machine() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UserError(f"{sys.platform} on {platform.machine()} was found; the Arm64 root needs Linux on x86-64",
                        try_="make test, which runs on this machine as it is")
    missing = [tool for tool in ("apt-get", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        raise UserError(f"{' and '.join(missing)} cannot be found; the Arm64 root, and the qemu that runs it, are made "
                        "of Debian 12's packages, expected in the sources of this system's apt")


def _wheels(downloads: Path) -> list[Path]:
    """Every wheel of wheels.txt, downloaded and as its hash says."""
    debian.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--require-hashes", *FOREIGN, "--dest", downloads, "--requirement", WHEELS])
    pinned = WHEELS.read_text("utf-8")
    return [path for path in sorted(downloads.glob("*.whl")) if f"sha256:{debian.sha256_of(path)}" in pinned]


def _needed_by_base() -> set[str]:
    """Names of the wheels above the line that parts wheels.txt."""
    above = WHEELS.read_text("utf-8").split("# more\n")[0]
    return {line.split("==")[0].lower().replace("_", "-") for line in above.splitlines() if "==" in line}


def _add_cpu(growing: Path, folder: Path, cpu: str) -> None:
    """Two interpreters, and the root as this model sees it: the engines ask /proc/cpuinfo what kernels to take."""
    part, more = CPUS[cpu]
    model = cpu + WITHOUT.get(cpu, "")
    seen = growing / "cpu" / cpu
    (seen / "proc").mkdir(parents=True)
    for name in sorted(path.name for path in (growing / "root").iterdir()):
        (seen / name).symlink_to(Path("..", "..", "root", name))
    write_text(seen / "proc" / "cpuinfo", "\n".join(
        f"processor\t: {core}\nBogoMIPS\t: 100.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32{more} cpuid\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n"
        for core in range(CORES)))
    for base in (True, False):
        path = f"python-{cpu}{'-base' if base else ''}"
        sites = [folder / "site" / "base"] + ([] if base else [folder / "site" / "more"])
        script = growing / path
        write_text(script, f"""#!/bin/sh
PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{':'.join(map(str, sites))}" \\
exec '{folder}/host/usr/bin/qemu-aarch64-static' -cpu {model} -L '{folder}/cpu/{cpu}' -0 '{folder}/{path}' \\
  -E LD_LIBRARY_PATH={LIBRARIES} -E PYTHONHOME='{folder}/root/usr' '{folder}/root/usr/bin/python3.11' "$@"
""")
        script.chmod(0o755)


def _pin() -> None:
    """Write wheels.txt, and each emulated machine's debs.txt, anew: the same packages, today's versions and hashes."""
    for pins in sorted(PROJECT.glob("tests/*/debs.txt")):
        debian.pin(pins)
    asked = (PROJECT / "pyproject.toml").read_text("utf-8").split("\ndependencies = [")[1].split("]")[0]
    base = _resolved(re.findall(r'"([\w-]+)"', asked))
    more = [line for line in _resolved([*re.findall(r'"([\w-]+)"', asked), *MORE]) if line not in base]
    write_text(WHEELS, "\n".join([*base, "# more", *more]) + "\n")


def _resolved(names: Sequence[str]) -> list[str]:
    """What pip would install on that machine, as requirements with hashes."""
    report = json.loads(debian.run([sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report=-",
                                    "--target=/", *FOREIGN, "--constraint", PROJECT / "constraints.txt", *names]))
    return sorted(f"{item['metadata']['name']}=={item['metadata']['version']} --hash=sha256:"
                  f"{item['download_info']['archive_info']['hashes']['sha256']}" for item in report["install"])


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("tests.arm64.root", "Build an Arm64 Linux that qemu runs, in the user's cache folder.",
                        "python -m tests.arm64.root")
    parser.add_argument("--pin", action="store_true", help="take today's versions, and write their hashes down")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    if args.pin:
        _pin()
    for cpu in CPUS:
        print(interpreter(cpu))
    return 0


if __name__ == "__main__":
    sys.exit(main())
