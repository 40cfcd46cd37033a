from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import conditions, machine
from benchmarks.conditions import Conditions, Snapshot


def test_what_others_took_is_the_busy_time_that_was_not_ours() -> None:
    before, after = Snapshot(10, 100.0, 5.0, 3, 50.0), Snapshot(14, 106.0, 5.5, 3, 90.0)
    taken = conditions.between(before, after, ours=4.0)
    assert taken == Conditions(seconds=4, others=2.5, throttled=0, joules=40.0)


def test_busy_machine_and_throttling_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "core_count", lambda: 2)
    assert Conditions(10, 0.9, 0, None).complaints() == ()  # 0.9 s of 2 x 10 s: 4.5 %
    busy, throttled = Conditions(10, 5.0, 7, None).complaints()
    assert "25 %" in busy
    assert "7 times" in throttled


def test_what_is_not_known_stays_unknown_in_a_sum() -> None:
    total = Conditions(1, 0.5, None, 3.0) + Conditions(2, None, 1, 4.0)
    assert total == Conditions(3, None, None, 7.0)
    assert total.others_share is None
    assert total.complaints() == ()


def test_energy_of_a_counter_that_wrapped_around_is_unknown() -> None:
    assert conditions.between(Snapshot(0, None, None, None, 9.0), Snapshot(1, None, None, None, 1.0), 0).joules is None


def test_counters_are_read_where_linux_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "PROC", tmp_path)
    monkeypatch.setattr(conditions, "SYS", tmp_path)
    monkeypatch.setattr(conditions, "own_cores", lambda: {1})
    monkeypatch.setattr(conditions.os, "sysconf", lambda name: 100)
    (tmp_path / "stat").write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
                                   "cpu1 100 200 300 9000 50 10 20 70 0 0\n")
    for package, microjoules in enumerate((1_500_000, 2_000_000)):
        folder = tmp_path / f"class/powercap/intel-rapl:{package}"
        folder.mkdir(parents=True)
        (folder / "energy_uj").write_text(f"{microjoules}\n")
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    (tmp_path / "fs/cgroup/cpu.stat").write_text("usage_usec 5\nnr_throttled 4\n")
    found = conditions.snapshot()
    assert (found.busy, found.stolen, found.throttled, found.joules) == (6.3, 0.7, 4, 3.5)


def test_system_without_counters_gives_unknowns_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "PROC", tmp_path)
    monkeypatch.setattr(conditions, "SYS", tmp_path)
    found = conditions.snapshot()
    assert (found.busy, found.stolen, found.throttled, found.joules) == (None, None, None, None)


def test_description_names_the_processor_and_says_nothing_it_does_not_know() -> None:
    found = machine.describe()
    assert found["cpu"]
    assert found["cores"] >= 1
    assert all(value not in (None, "", []) for value in found.values())


def written(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_an_arm_board_is_named_by_its_device_tree_its_chip_and_its_cores(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine, "SYS", tmp_path)
    core = "processor\t: {}\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: {}\n\n"
    written(tmp_path, {"device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
                       "device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
                       "cpuinfo": core.format(0, "0xd05") + core.format(1, "0xd0b") + core.format(2, "0xd0b")})
    found = machine.describe.__wrapped__()
    assert (found["model"], found["soc"]) == ("Raspberry Pi 5 Model B Rev 1.0", "brcm,bcm2712")
    assert (found["cpu"], found["instructions"]) == ("Cortex-A55, Cortex-A76", ["asimd", "asimddp"])
    assert found["kernel"]
    assert any(line.startswith("onnxruntime ") for line in found["engines"])


@pytest.mark.parametrize(("kernel", "process", "emulated"), [
    ("x86_64", "aarch64", "x86_64"), ("aarch64", "x86_64", "aarch64"), ("aarch64", "armv8l", None),
    ("x86_64", "i686", None), ("aarch64", "aarch64", None)])
def test_an_imitation_of_another_processor_is_known_by_the_kernels_own_architecture(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, process: str, emulated: str | None) -> None:
    monkeypatch.setattr(machine, "PROC", tmp_path)
    monkeypatch.setattr(machine.platform, "machine", lambda: process)
    written(tmp_path, {"sys/kernel/arch": f"{kernel}\n"})
    assert machine.describe.__wrapped__().get("emulated") == emulated


def test_a_board_that_slows_its_clock_down_makes_figures_invalid(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "SYS", tmp_path)
    written(tmp_path, {"class/thermal/cooling_device0/type": "pwm-fan\n",
                       "class/thermal/cooling_device0/cur_state": "4\n",
                       "class/thermal/cooling_device1/type": "cpufreq-cpu0\n",
                       "class/thermal/cooling_device1/cur_state": "0\n",
                       "devices/platform/soc/soc:firmware/get_throttled": "0\n"})
    cool = conditions.snapshot()
    assert cool.slowed == ()
    written(tmp_path, {"class/thermal/cooling_device1/cur_state": "3\n",
                       "devices/platform/soc/soc:firmware/get_throttled": "50005\n"})
    warm = conditions.snapshot()
    assert conditions.between(cool, cool, 0).complaints() == ()
    quiet = replace(conditions.between(cool, warm, 0), others=0.0)
    (complaint,) = (Conditions() + quiet).complaints()
    assert complaint == ("the processor was slowed down: cpufreq-cpu0 cools at step 3, the voltage is too low, the "
                         "processor is throttled")
