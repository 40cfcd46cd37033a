"""Where sources lie and outputs go: a folder, or whatever fsspec reaches by URL (s3://, gs://, …).

Names are relative to the store's root, with "/" between their parts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from runtime.errors import MissingLibrary, UserError
from runtime.files import in_one_piece, left_unfinished, remove


class Store(Protocol):
    """Files under a root. A file that cannot be reached raises OSError."""

    def find(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Name and version of every file that a pattern such as "**/*.mp4" names, in the order of their names.

        A version is another one when the file has changed.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Files directly in a folder, by their last part, sorted; none where there is no such folder."""
        ...

    def open(self, name: str) -> str | IO[bytes]:
        """For FFmpeg: a path, or what can be read and sought in."""
        ...

    def read(self, name: str) -> bytes:
        """All of a file."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """A whole file or none; what was there is replaced."""
        ...

    def clear(self, folder: str) -> None:
        """Delete a folder with all that is in it."""
        ...

    def tidy(self, folder: str) -> None:
        """Delete what writers that were killed left unfinished directly in a folder."""
        ...


class Folder:
    """A folder of this machine, or one that all machines share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find(self, pattern: str) -> Iterator[tuple[str, str]]:
        for path in sorted(self._root.glob(pattern)):
            if path.is_file():
                stat = path.stat()
                yield path.relative_to(self._root).as_posix(), f"{stat.st_size}-{stat.st_mtime_ns}"

    def names(self, folder: str) -> list[str]:
        path = self._root / folder
        return sorted(entry.name for entry in os.scandir(path) if entry.is_file()) if path.is_dir() else []

    def open(self, name: str) -> str:
        return os.fspath(self._root / name)

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_one_piece(path) as temporary:
            temporary.write_bytes(data)

    def clear(self, folder: str) -> None:
        remove(self._root / folder)

    def tidy(self, folder: str) -> None:
        for suffix in {Path(name).suffix for name in self.names(folder)}:
            for path, _ in left_unfinished(self._root / folder, ".*", suffix):
                path.unlink(missing_ok=True)


class Bucket:
    """What a URL names, through fsspec; a file there is whole or not there by the service's own promise."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingLibrary("fsspec", f"reaching {url}", "batch") from error
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # of s3fs, gcsfs, …, or no such scheme
            raise UserError(f"{url} cannot be reached ({error}); expected a URL whose library is installed",
                            try_="pip install s3fs for s3://, gcsfs for gs://") from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def find(self, pattern: str) -> Iterator[tuple[str, str]]:
        self._fs.invalidate_cache()
        found: dict[str, dict[str, Any]] = (self._fs.find(self._path(""), detail=True) if pattern == "**/*" else
                                            self._fs.glob(self._path(pattern), detail=True))
        for path, info in sorted(found.items()):
            if info["type"] == "file":
                changed = info.get("ETag") or info.get("etag") or info.get("LastModified") or info.get("mtime") or ""
                yield path[len(self._path("")) + 1:], f"{info['size']}-{changed}"

    def names(self, folder: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rsplit("/", 1)[1] for entry in entries if entry["type"] == "file")

    def open(self, name: str) -> IO[bytes]:
        file: IO[bytes] = self._fs.open(self._path(name), "rb")
        return file

    def read(self, name: str) -> bytes:
        data: bytes = self._fs.cat_file(self._path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        self._fs.pipe_file(self._path(name), data)

    def clear(self, folder: str) -> None:
        if self._fs.exists(self._path(folder)):
            self._fs.rm(self._path(folder), recursive=True)

    def tidy(self, folder: str) -> None:
        """Nothing is left: an upload that broke off never became a file."""


def store_at(url: str) -> Store:
    """The store that a path or a URL names; it need not exist.

    Raises:
        UserError: nothing here can reach it.
    """
    return Bucket(url) if "://" in url else Folder(Path(url))
