"""Files appear whole, under their own name, or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtime.files import cache_folder, in_one_piece
from tests.conftest import PACKAGES, ROOT


def test_a_file_gets_its_name_only_when_it_is_finished(tmp_path):
    path = tmp_path / "mask.png"
    path.write_text("old")
    with in_one_piece(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path  # another file system would make the rename a copy
        assert temporary.suffix == ".png"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_breaks_the_writing_off_leaves_the_older_file_and_nothing_else(tmp_path, end):
    path = tmp_path / "artifact.json"
    path.write_text("old")

    def broken_off():
        with in_one_piece(path) as temporary:
            temporary.write_text("half")
            raise end

    with pytest.raises(end):
        broken_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_older_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), in_one_piece(path):
        pass
    assert path.read_text() == "old"


@pytest.mark.parametrize(("platform", "expected"), [("linux", ".cache"), ("darwin", "Library/Caches")])
def test_the_cache_is_where_each_system_keeps_its_caches(monkeypatch, tmp_path, platform, expected):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / expected / "edgeseg"


ON_BOARDS = {"runtime/board_files.py", "runtime/board_command.py"}
"""Programs that begin on a board, where nothing of ours is yet; they name folders after their process themselves."""


def test_nothing_else_in_the_house_renames_files_by_hand():
    by_hand = re.compile(r"os\.replace\(|getpid\(\)|\.tmp\b|\btemporary\.replace\(")
    found = {str(path.relative_to(ROOT)) for package in PACKAGES
             for path in (ROOT / package).rglob("*.py") if by_hand.search(path.read_text(encoding="utf-8"))}
    assert found == {"runtime/files.py", *ON_BOARDS}


def test_a_folder_takes_the_place_of_an_older_one_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "package"
    for number in (1, 2):
        with in_one_piece(path) as temporary:
            temporary.mkdir()
            (temporary / f"{number}.txt").write_text(str(number))
    assert [file.name for file in path.iterdir()] == ["2.txt"]

    def break_off() -> None:
        with in_one_piece(path) as temporary:
            temporary.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert [file.name for file in path.iterdir()] == ["2.txt"]
    assert list(tmp_path.iterdir()) == [path]
