"""Debian's packages for the emulated machines, each pinned by its SHA-256; nothing is installed, and nobody is root.

apt works in a state folder of its own with this system's sources, so neither the system's packages nor its
architectures change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import UserError
from runtime.files import cache_folder, write_text


def debs(pins: Path, downloads: Path) -> list[Path]:
    """Every package of a debs.txt, downloaded and as its hash says.

    Raises:
        UserError: a package cannot be had, or has another hash.
    """
    pinned = {}  # path: what apt calls it, and its hash
    for line in pins.read_text("utf-8").splitlines():
        package, version, sha256 = line.split()
        name, architecture = package.split(":")
        path = downloads / f"{name}_{version.replace(':', '%3a')}_{architecture}.deb"
        pinned[path] = f"{package}={version}", sha256
    absent = [wanted for path, (wanted, _) in pinned.items() if not path.exists()]
    if absent:
        _apt("download", *absent, folder=downloads)
    for path, (_, sha256) in pinned.items():
        hold_against(path, sha256, pins)
    return list(pinned)


def pin(pins: Path) -> None:
    """Write a debs.txt anew: the same packages, today's versions and hashes."""
    shutil.rmtree(cache_folder() / "debian" / "apt", ignore_errors=True)
    names = [line.split()[0] for line in pins.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as empty:  # apt says nothing of what lies in the folder already
        said = _apt("download", "--print-uris", *names, folder=Path(empty)).splitlines()
    write_text(pins, "".join(sorted(map(_deb_line, said))))


def _deb_line(said: str) -> str:
    """apt's line of a package (address, file, size, hash) as one of debs.txt."""
    _, file, _, digest = said.split()
    name, version, architecture = file.removesuffix(".deb").split("_")
    return f"{name}:{architecture} {version.replace('%3a', ':')} {digest.removeprefix('SHA256:')}\n"


def _apt(*words: str, folder: Path) -> str:
    """Run apt-get in `folder`, with a state of its own that the first call fetches."""
    state = cache_folder() / "debian" / "apt"
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
            run(["apt-get", "--quiet", "update"], environment=environment)
        except UserError:
            config.unlink()
            raise
    return run(["apt-get", "--quiet", *words], folder=folder, environment=environment)


def hold_against(path: Path, sha256: str, pins: Path) -> None:
    """Remove a file with another hash, and raise UserError."""
    if sha256_of(path) != sha256:
        path.unlink()
        raise UserError(f"{path.name} has another SHA-256 than {pins.name} says, and was removed; expected "
                        f"{sha256[:12]}…", try_="the same command again")


def sha256_of(path: Path) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(words: Sequence[object], *, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a program prints; UserError where it fails."""
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise UserError(f"`{' '.join(map(str, words[:4]))} …` ended with {done.returncode}: {last[0]}",
                        try_="again, or python -m tests.arm64.root --pin where a pinned version is gone")
    return done.stdout
