from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.machine import Snapshot, Spell


def test_what_others_took_is_the_busy_time_that_was_not_ours() -> None:
    before, after = Snapshot(10, 100.0, 5.0, 3, 50.0), Snapshot(14, 106.0, 5.5, 3, 90.0)
    taken = machine.spell(before, after, ours=4.0)
    assert taken == Spell(seconds=4, others=2.5, throttled=0, joules=40.0)


def test_busy_machine_and_throttling_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "core_count", lambda: 2)
    assert Spell(10, 0.9, 0, None).complaints() == ()  # 0.9 s of 2 x 10 s: 4.5 %
    busy, throttled = Spell(10, 5.0, 7, None).complaints()
    assert "25 %" in busy
    assert "7 times" in throttled


def test_what_is_not_known_stays_unknown_in_a_sum() -> None:
    total = Spell(1, 0.5, None, 3.0) + Spell(2, None, 1, 4.0)
    assert total == Spell(3, None, None, 7.0)
    assert total.others_share is None
    assert total.complaints() == ()


def test_energy_of_a_counter_that_wrapped_around_is_unknown() -> None:
    assert machine.spell(Snapshot(0, None, None, None, 9.0), Snapshot(1, None, None, None, 1.0), 0).joules is None


def test_counters_are_read_where_linux_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "SYS", tmp_path)
    monkeypatch.setattr(machine, "_own_cores", lambda: {1})
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
                                   "cpu1 100 200 300 9000 50 10 20 70 0 0\n")
    for package, microjoules in enumerate((1_500_000, 2_000_000)):
        folder = tmp_path / f"class/powercap/intel-rapl:{package}"
        folder.mkdir(parents=True)
        (folder / "energy_uj").write_text(f"{microjoules}\n")
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    (tmp_path / "fs/cgroup/cpu.stat").write_text("usage_usec 5\nnr_throttled 4\n")
    found = machine.snapshot()
    assert (found.busy, found.stolen, found.throttled, found.joules) == (6.3, 0.7, 4, 3.5)


def test_system_without_counters_gives_unknowns_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "SYS", tmp_path)
    found = machine.snapshot()
    assert (found.busy, found.stolen, found.throttled, found.joules) == (None, None, None, None)


def test_description_names_the_processor_and_says_nothing_it_does_not_know() -> None:
    found = machine.describe()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert all(value not in (None, "", []) for value in found.values())
