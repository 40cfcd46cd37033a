"""ONNX Runtime Web, from npm: one version, held to its hash, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import UserError
from runtime.files import cache_folder, in_one_piece

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
SHA512 = ("ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
          "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61")
"""Of the packed package; npm's registry calls it `dist.integrity`."""

FILES = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
"""What each provider needs of the package's `dist`: the module that is imported, and what that loads itself."""


def unpack(providers: Sequence[str], folder: Path) -> None:
    """Put the files of some of `FILES`' providers into an existing folder.

    Raises:
        UserError: the package is not in the cache and npm cannot bring it, or its hash differs.
    """
    wanted = [name for provider in providers for name in FILES[provider]]
    with tarfile.open(_package()) as archive:
        for name in wanted:
            source = archive.extractfile(f"package/dist/{name}")
            assert source is not None
            with source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _package() -> Path:
    """The packed package in the cache; only one with the right hash gets there."""
    path = cache_folder() / f"{PACKAGE}-{VERSION}.tgz"
    if path.is_file():
        _check(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with in_one_piece(path) as temporary:
        _fetch(temporary, path)
        _check(temporary)
    return path


def _fetch(temporary: Path, path: Path) -> None:
    """`npm pack`: the registry, proxy and mirror are those that the user's npm is set to."""
    hint = f"npm pack {PACKAGE}@{VERSION} where npm reaches its registry, and put the file at {path}"
    folder = temporary.with_suffix(".folder")
    folder.mkdir()
    try:
        subprocess.run(["npm", "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--pack-destination", str(folder)],
                       check=True, capture_output=True, text=True, timeout=600)
        (folder / path.name).replace(temporary)
    except FileNotFoundError as error:
        raise UserError(f"the page needs {PACKAGE} {VERSION}, and npm, which fetches it, is not installed",
                        try_=hint) from error
    except subprocess.SubprocessError as error:
        lines = [line for line in (getattr(error, "stderr", "") or str(error)).splitlines() if line.strip()]
        raise UserError(f"npm cannot fetch {PACKAGE} {VERSION} ({lines[0][:200]})", try_=hint) from error
    finally:
        shutil.rmtree(folder)


def _check(path: Path) -> None:
    found = hashlib.sha512(path.read_bytes()).hexdigest()
    if found != SHA512:
        raise UserError(f"{path} has SHA-512 {found[:12]}…, expected {SHA512[:12]}…: it is not {PACKAGE} {VERSION} as "
                        "npm has it", try_=f"remove {path} and run the command again")
