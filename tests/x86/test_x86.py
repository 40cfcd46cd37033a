"""The emulated PC: what can be held without Bochs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from runtime.errors import UserError
from tests.x86 import inside, machine


def test_every_package_is_pinned_by_its_hash():
    lines = [line.split() for line in machine.DEBS.read_text("utf-8").splitlines()]
    assert {len(words) for words in lines} == {3}
    assert all(len(sha256) == 64 and package.split(":")[1] in ("amd64", "all") for package, _, sha256 in lines)


def test_a_missing_bochs_is_named_with_what_was_expected(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    with pytest.raises(UserError, match=r"bochs is no file; expected Bochs"):
        machine.check(tmp_path / "bochs")
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(UserError, match="apt-get cannot be found"):
        machine.check(tmp_path / "bochs")


def test_kernel_modules_come_after_what_they_need():
    needs = {"crc32c_generic": b"", "crct10dif_generic": b"", "ata-piix": b"libata", "libata": b"scsi_mod",
             "scsi_mod": b"", "sd_mod": b"scsi_mod", "ext4": b"jbd2,mbcache", "jbd2": b"", "mbcache": b"", "other": b""}
    files = {name: b"\0license=GPL\0depends=" + names + b"\0" for name, names in needs.items()}
    order = machine.modules(files)
    assert set(order) == {name.replace("-", "_") for name in needs} - {"other"}
    assert order.index("scsi_mod") < order.index("libata") < order.index("ata_piix")
    assert order.index("mbcache") < order.index("ext4")


def test_a_mask_comes_back_as_it_was():
    mask = np.random.default_rng(0).integers(0, 11, (36, 48), np.uint8)
    assert np.array_equal(inside.unpacked(inside.packed(mask)), mask)
