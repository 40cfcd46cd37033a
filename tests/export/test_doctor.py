from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from export import __main__ as command
from export import doctor
from export.doctor import Installation, abilities, problems
from export.target import Judged, Problem, Target, targets
from runtime.sessions import Engine, engines

HERE = Installation("Linux x86_64", (3, 11), {"torch": "1.0", "numpy": "2.0"})
SQUASH = Target("Squash", ending=".squash", source="torch", precisions=("fp32",), outputs=("low",), packages=(),
                extra="export", without_engine=Judged.BUILT, remark=lambda: "squashes well")


def test_every_target_and_every_engine_of_this_machine_has_a_line():
    lines = [ability.command for ability in abilities(targets(), engines())]
    assert [f"python -m export.{name}" for name in targets()] == lines[:len(targets())]
    assert "python -m runtime X.onnx" in lines
    assert "python -m runtime X.onnx --engine openvino" in lines
    assert "python -m calibration" in lines


def test_what_a_target_lacks_stands_before_its_remark_and_what_an_engine_lacks_too():
    lacking = dataclasses.replace(SQUASH, lacks=lambda: "needs a press")
    plenty, none = (abilities({"squash": target}, {})[0] for target in (SQUASH, lacking))
    assert (plenty.hindrance, plenty.remark) == ("", "squashes well")
    assert none.hindrance == "needs a press"
    engine = Engine("Juicer", reads=("squash",), packages=("no-such-package",), extra="juice")
    _, _, line = abilities({"squash": SQUASH}, {"juicer": engine})
    assert line.command == "python -m runtime X.squash --engine juicer"
    assert line.hindrance == "no-such-package not installed: pip install 'edgeseg[juice]'"


@pytest.mark.parametrize(("machine", "what", "fix"), [
    (dataclasses.replace(HERE, python=(3, 9)), "Python 3.9", "make the environment"),
    (dataclasses.replace(HERE, packages={"opencv-python": "5", "opencv-python-headless": "5"}), "same files",
     "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python"),
    (dataclasses.replace(HERE, packages={"onnxruntime": "1", "onnxruntime-gpu": "1"}), "same files", "onnxruntime"),
])
def test_what_does_not_work_together_is_named_with_its_fix(machine, what, fix):
    (found,) = problems(machine, [])
    assert what in found.what
    assert fix in found.fix
    assert problems(HERE, []) == []


def test_a_targets_own_problems_are_among_them():
    bruised = dataclasses.replace(SQUASH, problems=lambda: [Problem("bruised", "peel it")])
    assert problems(HERE, [SQUASH, bruised]) == [Problem("bruised", "peel it")]


def test_the_command_ends_with_1_where_something_is_known_not_to_work(monkeypatch, capsys):
    monkeypatch.setattr("export.target.targets", lambda: {"squash": SQUASH})
    assert command.main(["doctor"]) == 0
    assert "known not to work" not in capsys.readouterr().out
    bruised = dataclasses.replace(SQUASH, problems=lambda: [Problem("bruised", "peel it")])
    monkeypatch.setattr("export.target.targets", lambda: {"squash": bruised})
    assert command.main(["doctor"]) == 1
    assert "known not to work: bruised. Try: peel it" in capsys.readouterr().out


def test_this_machine_is_seen():
    machine = doctor.this_machine(targets().values(), engines().values())
    assert machine.packages["numpy"] == np.__version__
    assert {"torch", "onnx", "onnxruntime"} <= set(machine.packages)
    assert machine.python == sys.version_info[:2]
