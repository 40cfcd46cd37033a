"""An Arm64 Linux in a folder, of Debian's packages and PyPI's wheels, run by qemu on this machine: no root, no chroot.

    python -m tests.arm64.root          builds it in the user's cache folder and names its interpreters
    python -m tests.arm64.root --pin    writes debs.txt and wheels.txt anew, with today's versions and hashes

Everything that is unpacked is named in those two files with its SHA-256; what the cache holds is used again. apt works
in a state folder of its own with this system's sources, so neither the system's packages nor its architectures change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.errors import UserError
from runtime.files import cache_folder, write_text

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
        for deb in _debs(downloads):
            _run(["dpkg-deb", "--extract", deb, growing / ("host" if deb.name.endswith("_amd64.deb") else "root")])
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


def _debs(downloads: Path) -> list[Path]:
    """Every package of debs.txt, downloaded and as its hash says."""
    pinned = {}  # path: what apt calls it, and its hash
    for line in DEBS.read_text("utf-8").splitlines():
        package, version, sha256 = line.split()
        name, architecture = package.split(":")
        path = downloads / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        pinned[path] = f"{package}={version}", sha256
    absent = [wanted for path, (wanted, _) in pinned.items() if not path.exists()]
    if absent:
        _apt("download", *absent, folder=downloads)
    for path, (_, sha256) in pinned.items():
        _hold_against(path, sha256)
    return list(pinned)


def _apt(*words: str, folder: Path) -> str:
    """Run apt-get in `folder`, with a state of its own that the first call fetches."""
    state = cache_folder() / "arm64" / "apt"
    config = state / "apt.conf"
    environment = {**os.environ, "APT_CONFIG": str(config), "LC_ALL": "C"}
    if not config.exists():
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        write_text(config, f'Dir::State "{state}"; Dir::State::status "{state}/status"; Dir::Cache "{state}";\n'
                           '#clear APT::Architectures;\nAPT::Architectures { "amd64"; "arm64"; };\n'
                           'Acquire::Languages "none";\n')
        try:
            _run(["apt-get", "--quiet", "update"], environment=environment)
        except UserError:
            config.unlink()
            raise
    return _run(["apt-get", "--quiet", *words], folder=folder, environment=environment)


def _wheels(downloads: Path) -> list[Path]:
    """Every wheel of wheels.txt, downloaded and as its hash says."""
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
          "--require-hashes", *FOREIGN, "--dest", downloads, "--requirement", WHEELS])
    pinned = WHEELS.read_text("utf-8")
    return [path for path in sorted(downloads.glob("*.whl")) if f"sha256:{_sha256(path)}" in pinned]


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


def _hold_against(path: Path, sha256: str) -> None:
    if _sha256(path) != sha256:
        path.unlink()
        raise UserError(f"{path.name} has another SHA-256 than {DEBS.name} says, and was removed; expected "
                        f"{sha256[:12]}…", try_="the same command again")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(words: Sequence[object], *, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise UserError(f"`{' '.join(map(str, words[:4]))} …` ended with {done.returncode}: {last[0]}",
                        try_="again, or python -m tests.arm64.root --pin where a pinned version is gone")
    return done.stdout


def _pin() -> None:
    """Write debs.txt and wheels.txt anew: the same packages, today's versions and hashes."""
    shutil.rmtree(cache_folder() / "arm64" / "apt", ignore_errors=True)
    names = [line.split()[0] for line in DEBS.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as empty:  # apt says nothing of what lies in the folder already
        said = _apt("download", "--print-uris", *names, folder=Path(empty)).splitlines()
    write_text(DEBS, "".join(sorted(map(_deb_line, said))))
    asked = (PROJECT / "pyproject.toml").read_text("utf-8").split("\ndependencies = [")[1].split("]")[0]
    base = _resolved(re.findall(r'"([\w-]+)"', asked))
    more = [line for line in _resolved([*re.findall(r'"([\w-]+)"', asked), *MORE]) if line not in base]
    write_text(WHEELS, "\n".join([*base, "# more", *more]) + "\n")


def _deb_line(said: str) -> str:
    """apt's line of a package (address, file, size, hash) as one of debs.txt."""
    _, file, _, digest = said.split()
    name, version, architecture = file.removesuffix(".deb").split("_")
    return f"{name}:{architecture} {version.replace('%3a', ':')} {digest.removeprefix('SHA256:')}\n"


def _resolved(names: Sequence[str]) -> list[str]:
    """What pip would install on that machine, as requirements with hashes."""
    report = json.loads(_run([sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report=-",
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
