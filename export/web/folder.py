"""The static folder: the page, the network, the engine and the proof, written in one piece."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.web import engine, proof
from runtime.artifact import json_path, open_artifact
from runtime.errors import UserError
from runtime.files import in_one_piece

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.preprocess import Frame

FORMAT = 1
PAGE = "page.json"
ENGINE = f"engine-{engine.VERSION}"
ICONS = (192, 512)


def build(source: Path, out: Path, *, webgpu: bool = True, picture: Path | None = None,
          say: Callable[[str], None] = lambda line: None) -> Path:
    """Make the folder.

    Args:
        source: an `.onnx` artifact or its JSON; both go into the folder unchanged.
        out: the folder; one that this function made before is replaced, any other must be empty.
        webgpu: whether WebGPU's build of the engine comes too, 27 MB; a browser fetches only the one it uses.
        picture: the frame that the page proves itself with; None for one that we draw. It is published with the page.
        say: receives one line per step.

    Returns:
        `out`.

    Raises:
        UserError: the artifact, the picture or the folder cannot be used, or the engine cannot be had.
    """
    artifact, path = open_artifact(source)
    proof.check(artifact)
    check_out(out)
    providers = ("wasm", "webgpu") if webgpu else ("wasm",)
    out.parent.mkdir(parents=True, exist_ok=True)
    with in_one_piece(out) as temporary:
        temporary.mkdir()
        (temporary / ENGINE).mkdir()
        engine.unpack(providers, temporary / ENGINE)
        say(f"{engine.PACKAGE} {engine.VERSION}: {', '.join(providers)}")
        _copy_page(temporary)
        proved = add_network(path, artifact, temporary, ENGINE, providers, picture)
        say(f"proof: {proved['expected']}, gate {100 * proved['gate']:g} % of pixels "
            f"(one class everywhere: {100 * proved['alone']:.1f} %)")
    return out


def add_network(path: Path, artifact: Artifact, folder: Path, engine_at: str, providers: Sequence[str],
                picture: Path | None = None) -> Mapping[str, Any]:
    """Put a network, its proof and the description that the page's modules read into a folder.

    Args:
        path: the `.onnx` file.
        artifact: its JSON.
        folder: exists.
        engine_at: where ONNX Runtime Web lies, as an address relative to the folder's.
        providers: of `engine.FILES`.
        picture: as for `build`.

    Returns:
        The proof, as `proof.write` returns it.
    """
    for file in (path, json_path(path)):
        shutil.copyfile(file, folder / file.name)
    proved = proof.write(path, artifact, picture, folder)
    runtime = {"version": engine.VERSION, "folder": engine_at,
               **{provider: {"module": engine.FILES[provider][0]} for provider in providers}}
    page = {"format": FORMAT, "artifact": json_path(path).name, "runtime": runtime, "proof": proved,
            "offline": _offline(folder, f"{path.name}?sha256={artifact.sha256[:12]}"), "version": _version(folder)}
    (folder / PAGE).write_text(json.dumps(page, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return proved


def check_out(out: Path) -> None:
    """See that no other files are in the way.

    Raises:
        UserError: `out` is a file, or holds something and no page of ours.
    """
    if out.exists() and not (out.is_dir() and ((out / PAGE).is_file() or not any(out.iterdir()))):
        raise UserError(f"{out} exists and was not written by python -m export.web; expected an empty or new folder",
                        try_=f"--out {out / 'web'}")


def _copy_page(folder: Path) -> None:
    for file in files("export.web").joinpath("page").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for side in ICONS:
        _write_icon(folder / f"icon-{side}.png", side)


def _offline(folder: Path, network: str) -> list[str]:
    """What the service worker stores at once: everything but the second engine, which it stores when it is used."""
    small = sorted(file.name for file in folder.iterdir() if file.is_file() and file.suffix not in (".onnx", ".md"))
    wasm = [f"{ENGINE}/{name}" for name in engine.FILES["wasm"]]
    return ["./", PAGE, *small, *wasm, network]


def _version(folder: Path) -> str:
    """A name for what the folder holds, by which the service worker notices a new state."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _write_icon(path: Path, side: int) -> None:
    """Four regions with a border between them, on the page's dark ground."""
    import cv2
    import numpy as np

    icon: Frame = np.full((side, side, 3), (23, 18, 15), np.uint8)
    inner = (np.array([[20, 22], [56, 22], [44, 52], [20, 58]]), np.array([[60, 22], [80, 22], [80, 46], [48, 52]]),
             np.array([[20, 62], [43, 56], [34, 80], [20, 80]]), np.array([[47, 56], [80, 50], [80, 80], [38, 80]]))
    for shape, colour in zip(inner, ((236, 130, 82), (96, 190, 90), (70, 176, 242), (200, 98, 150))):
        cv2.fillPoly(icon, [(shape * side / 100 * 16).astype(np.int32)], colour, lineType=cv2.LINE_AA, shift=4)
    done, encoded = cv2.imencode(".png", icon)
    assert done
    path.write_bytes(encoded.tobytes())
