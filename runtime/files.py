"""Files that are whole or not there, and the user's cache folder."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import UserError


@contextmanager
def in_one_piece(path: Path) -> Iterator[Path]:
    """A temporary name to write to; the file or folder there becomes `path` when the block ends without an error.

        with in_one_piece(path) as temporary:
            temporary.write_bytes(data)

    What the block checks before its end decides whether the file counts. Whatever breaks the block off, Ctrl-C
    included, removes the temporary file and leaves what stood at `path` before as it was.

    Yields:
        `unfinished(path)`. A block that writes nothing there raises FileNotFoundError at its end.
    """
    temporary = unfinished(path)
    try:
        yield temporary
        _replace(temporary, path)
    finally:
        remove(temporary)


def _replace(new: Path, path: Path) -> None:
    """Rename; a folder that stands in the way is moved aside first, as no system replaces one that holds anything."""
    old = path.with_name(f"{new.name}.old")
    if path.is_dir():
        path.rename(old)
    try:
        new.replace(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """See, before long work begins, that a file can be written at `path`.

    Raises:
        UserError: its folder is missing or read-only, or `path` is a folder itself.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: {path.parent} is not a folder that you may write to",
                        try_=f"mkdir -p {path.parent}")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; expected a file name")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, in one piece."""
    with in_one_piece(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def unfinished(path: Path) -> Path:
    """The name that `path` has until it is finished: hidden, this process's own, in the same folder (a rename is
    atomic only within a file system), with the same ending, as numpy and FFmpeg go by it."""
    number = f"{os.getpid()}{zlib.crc32(platform.node().encode()):010}"  # machines may share a folder
    return path.with_name(f".{path.stem}.{number}.tmp{path.suffix}")


def left_unfinished(folder: Path, stem: str, suffix: str) -> Iterator[tuple[Path, str]]:
    """What processes that were killed left in a folder under the names of `unfinished`.

    Args:
        folder: where to look; one that is not there holds nothing.
        stem: a regular expression for the stems of the files to be.
        suffix: their ending, ".mp4".

    Yields:
        Each file and its stem, in the order of their names.
    """
    pattern = re.compile(rf"\.({stem})\.\d+\.tmp{re.escape(suffix)}")
    for path in sorted(folder.iterdir() if folder.is_dir() else []):
        if match := pattern.fullmatch(path.name):
            yield path, match[1]


def cache_folder() -> Path:
    """Where edgeseg keeps what it can make again, as each system has it; not made."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "edgeseg"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "edgeseg"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "edgeseg"
