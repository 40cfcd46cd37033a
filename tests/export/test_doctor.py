from __future__ import annotations

import dataclasses

import pytest

from export import __main__ as command
from export import doctor
from export.doctor import Machine, abilities, problems
from runtime.cuda import Gpu

HOST = Machine("Linux x86_64", (3, 11), dict.fromkeys(
    ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime", "coremltools", "numpy"), "1.0")
    | {"tensorrt-rtx-cu13": "1.7", "cuda-bindings": "13.5.0"}, "this machine has no NVIDIA driver")
RTX_4090 = Gpu("RTX 4090", (8, 9), 24_000, "13.0")
ORIN = Gpu("Orin", (8, 7), 30_000, "12.6")


def able(machine: Machine) -> set[str]:
    return {ability.command.removeprefix("python -m ") for ability in abilities(machine) if not ability.hindrance}


def packages(**versions: str) -> dict[str, str]:
    return {name.replace("_", "-"): number for name, number in versions.items()}


def test_a_build_machine_exports_everything_and_runs_what_a_cpu_runs():
    assert able(HOST) == {"export.onnx", "export.trt", "export.coreml", "calibration", "runtime X.onnx"}
    assert "built, not executed" in next(a.remark for a in abilities(HOST) if a.command.endswith(".trt"))
    assert problems(HOST) == []


@pytest.mark.parametrize(("machine", "more"), [
    (dataclasses.replace(HOST, gpu=RTX_4090), "runtime X.plan"),
    (dataclasses.replace(HOST, macos="15.1"), "runtime X.mlpackage")])
def test_a_gpu_and_a_mac_can_each_do_one_thing_more(machine, more):
    assert able(machine) - able(HOST) == {more}


def test_a_device_runs_and_says_which_extra_exporting_takes():
    device = Machine("Linux aarch64", (3, 10), packages(onnxruntime="1.0", numpy="2.0", tensorrt="10.3.0",
                                                        cuda_bindings="12.9.0"), ORIN, jetpack=6)
    assert able(device) == {"runtime X.onnx", "runtime X.plan"}
    assert "pip install 'edgeseg[export]'" in abilities(device)[0].hindrance
    assert problems(device) == []


@pytest.mark.parametrize(("machine", "what", "fix"), [
    (dataclasses.replace(HOST, python=(3, 13)), "Python 3.13", "make the environment"),
    (dataclasses.replace(HOST, packages=packages(opencv_python="5", opencv_python_headless="5")), "same files",
     "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"),
    (dataclasses.replace(HOST, packages=packages(onnxruntime="1", onnxruntime_gpu="1")), "same files", "onnxruntime"),
    (dataclasses.replace(HOST, gpu=dataclasses.replace(RTX_4090, driver="12.4")), "newer than the driver",
     "pip install 'cuda-bindings==12.*'"),
    (dataclasses.replace(HOST, gpu=dataclasses.replace(ORIN, driver="13.0")), "does not serve Orin", "JetPack"),
    (dataclasses.replace(HOST, packages=packages(tensorrt="11.4.0"), jetpack=6), "does not run on JetPack 6", "venv"),
    (dataclasses.replace(HOST, packages=packages(tensorrt="8.6.1")), "need 10 or newer", "JetPack 6"),
])
def test_what_does_not_work_together_is_named_with_its_fix(machine, what, fix):
    assert len(problems(machine)) == 1
    assert what in problems(machine)[0].what
    assert fix in problems(machine)[0].fix


@pytest.mark.parametrize(("release", "jetpack"), [("# R36 (release), REVISION: 4.3, GCID: 1", 6),
                                                  ("# R35 (release), REVISION: 3.1", 5), ("", None)])
def test_jetpack_is_known_by_its_release_file(release, jetpack):
    assert doctor._jetpack(release) == jetpack


def test_the_command_ends_with_1_where_something_is_known_not_to_work(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "this_machine", lambda: HOST)
    assert command.main(["doctor"]) == 0
    assert "5 of 7 commands work here" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "this_machine", lambda: dataclasses.replace(HOST, python=(3, 13)))
    assert command.main(["doctor"]) == 1
    assert "known not to work: Python 3.13" in capsys.readouterr().out


def test_this_machine_is_seen(capsys):
    machine = doctor.this_machine()
    assert {"torch", "onnx", "numpy"} <= set(machine.packages)
    assert machine.python >= (3, 10)
