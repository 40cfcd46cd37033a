"""What is to be worked on: every video, and every folder that holds images, of the sources that were named."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime.batch.store import store_at
from runtime.errors import UserError
from runtime.video import IMAGES

VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv"}
"""File endings that are looked for in folders."""

EVERYTHING = "**/*"


@dataclass(frozen=True)
class Item:
    """One video, or one folder of images.

    Attributes:
        root: of the store that it lies in.
        name: of the file or folder in there; also its folder under the output's root.
        images: the files' names, in order; none for a video.
        version: another one when the source has changed.
    """

    root: str
    name: str
    images: tuple[str, ...]
    version: str

    @property
    def path(self) -> str:
        """Where it lies, for a person."""
        return f"{self.root.rstrip('/')}/{self.name}"


def find_items(sources: Sequence[str]) -> list[Item]:
    """All items, in the order of the sources and of their names.

    Args:
        sources: paths or URLs; each a folder (searched deeply), a pattern with *, ? or [, a video or image, or a .txt
            file that lists such, one a line.

    Raises:
        UserError: nothing is there, or two items would have the same name.
    """
    found = [item for source in sources for item in _of_source(source)]
    by_name = {item.name: item for item in reversed(found)}
    for item in found:
        if by_name[item.name] != item:
            raise UserError(f"{item.path} and {by_name[item.name].path} would both be written to {item.name}; expected "
                            "different names", try_="--source with the folder that holds both")
    return list(dict.fromkeys(found))


def _of_source(source: str) -> Iterator[Item]:
    if source.endswith(".txt"):
        root, files = _listed(source)
    else:
        root, pattern = _root_and_pattern(source)
        files = list(store_at(root).find(pattern))
    items = list(_items(root if "://" in root else os.path.abspath(root), files))  # for workers elsewhere
    if not items:
        raise UserError(f"--source {source} holds neither a video nor an image; expected files ending in "
                        f"{', '.join(sorted(VIDEOS | IMAGES))}")
    yield from items


def _root_and_pattern(source: str) -> tuple[str, str]:
    """A folder and everything, the fixed part of a pattern and the rest, or a file's folder and its name."""
    if wild := re.search(r"[*?\[]", source):
        root, _, _ = source[:wild.start()].rpartition("/")
        return root or ("/" if source.startswith("/") else "."), source[len(root):].lstrip("/")
    if PurePosixPath(source).suffix.lower() in VIDEOS | IMAGES and ("://" in source or not Path(source).is_dir()):
        root, _, name = source.rpartition("/")
        return root or ".", name
    if "://" not in source and not Path(source).is_dir():
        raise UserError(f"--source {source} does not exist; expected a folder, a pattern, a video, or a .txt file that "
                        "lists some")
    return source, EVERYTHING


def _listed(source: str) -> tuple[str, list[tuple[str, str]]]:
    """The files that a list names, by their names below the deepest folder that holds them all."""
    root, _, name = source.rpartition("/")
    lines = [line.strip() for line in store_at(root or ".").read(name).decode("utf-8").splitlines()]
    sources = [_root_and_pattern(line) for line in lines if line and not line.startswith("#")]
    if not sources:
        raise UserError(f"--source {source} lists nothing; expected a path or URL on each line")
    common = sources[0][0]
    while not all(f"{place}/".startswith(f"{common}/") for place, _ in sources):
        common = common.rpartition("/")[0]
        if not common or common.endswith(":/"):
            raise UserError(f"--source {source} lists files of several places, {sources[0][0]} and others; expected "
                            "them below one folder", try_="a list for each place")
    files = [(f"{place}/{found}"[len(common) + 1:], version) for place, pattern in sources
             for found, version in _existing(place, pattern)]
    return common, files


def _existing(place: str, pattern: str) -> list[tuple[str, str]]:
    found = list(store_at(place).find(pattern))
    if not found and "*" in pattern:
        raise UserError(f"no file matches {place}/{pattern}; expected files where the list names them")
    return found or [(pattern, "")]  # a video that is not there is an item that fails, and the others go on


def _items(root: str, files: Sequence[tuple[str, str]]) -> Iterator[Item]:
    """Each video, then the images of each folder together."""
    folders: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, version in files:
        folder, _, last = name.rpartition("/")
        if last.startswith("."):
            continue
        if PurePosixPath(last).suffix.lower() in VIDEOS:
            yield Item(root, name, (), version)
        elif PurePosixPath(last).suffix.lower() in IMAGES:
            folders[folder].append((last, version))
    for folder, images in sorted(folders.items()):
        digest = hashlib.sha256(repr(images).encode()).hexdigest()[:16]
        yield Item(root, folder or "images", tuple(f"{folder}/{last}".lstrip("/") for last, _ in images), digest)
