from __future__ import annotations

import dataclasses

import pytest

from export.trt.machine import Machine, jetpack_from, problems
from runtime.sessions._cuda import Gpu

HOST = Machine({"tensorrt-rtx-cu13": "1.7", "cuda-bindings": "13.5.0"}, "this machine has no NVIDIA driver")
RTX_4090 = Gpu("RTX 4090", (8, 9), "13.0")
ORIN = Gpu("Orin", (8, 7), "12.6")


@pytest.mark.parametrize("machine", [
    HOST, dataclasses.replace(HOST, gpu=RTX_4090),
    Machine({"tensorrt": "10.3.0", "cuda-bindings": "12.9.0"}, ORIN, jetpack=6)])
def test_what_works_together_has_no_problem(machine):
    assert problems(machine) == []


@pytest.mark.parametrize(("machine", "what", "fix"), [
    (dataclasses.replace(HOST, gpu=dataclasses.replace(RTX_4090, driver="12.4")), "newer than the driver",
     "pip install 'cuda-bindings==12.*'"),
    (dataclasses.replace(HOST, gpu=dataclasses.replace(ORIN, driver="13.0")), "does not serve Orin", "JetPack"),
    (Machine({"tensorrt": "11.4.0"}, HOST.gpu, jetpack=6), "does not run on JetPack 6", "venv"),
    (Machine({"tensorrt": "8.6.1"}, HOST.gpu), "need 10 or newer", "JetPack 6"),
])
def test_what_does_not_work_together_is_named_with_its_fix(machine, what, fix):
    (found,) = problems(machine)
    assert what in found.what
    assert fix in found.fix


@pytest.mark.parametrize(("release", "jetpack"), [("# R36 (release), REVISION: 4.3, GCID: 1", 6),
                                                  ("# R35 (release), REVISION: 3.1", 5), ("", None)])
def test_jetpack_is_known_by_its_release_file(release, jetpack):
    assert jetpack_from(release) == jetpack
