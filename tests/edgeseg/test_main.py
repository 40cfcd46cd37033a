"""`edgeseg`: one command for all, a map of them, completion, and the names that programs import."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import edgeseg
from edgeseg.__main__ import commands, main
from tests.conftest import PACKAGES, ROOT


def test_alone_it_lists_every_command_with_what_it_does(capsys):
    packages = {".".join(path.parent.relative_to(ROOT).parts) for package in PACKAGES if package != "edgeseg"
             for path in (ROOT / package).rglob("__main__.py")}
    assert set(commands()) == packages | {"completion"}
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert [name for name in commands() if f"  edgeseg {name} " not in listed] == []


def test_a_command_runs_as_it_does_by_its_module(capsys):
    assert main(["export.models", "lraspp"]) == 0
    assert "torchvision" in capsys.readouterr().out
    assert main(["export.models", "lrasp"]) == 2
    assert "Try: " in capsys.readouterr().err


def test_a_misspelt_command_is_answered_with_the_nearest_one(capsys):
    assert main(["export.onx", "lraspp", "--size", "64x64"]) == 2
    assert capsys.readouterr().err.endswith("Try: edgeseg export.onnx\n")


def test_the_version_is_the_distributions(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeseg {edgeseg.__version__}\n"
    assert f'version = "{edgeseg.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("called", "as_"), [("edgeseg", "edgeseg export.onnx"), ("x.py", "python -m export.onnx")])
def test_help_and_errors_name_the_command_as_it_was_called(monkeypatch, capsys, called, as_):
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{called}"])
    with pytest.raises(SystemExit):
        main(["export.onnx", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {as_} ")


def test_importing_edgeseg_loads_nothing_and_its_names_are_the_runtimes():
    code = ("import sys, edgeseg\n"
            "print(sorted({'numpy', 'cv2', 'msgspec', 'onnxruntime', 'torch', 'runtime'} & set(sys.modules)))\n"
            "import runtime\n"
            "assert edgeseg.__all__ == runtime.__all__\n"
            "assert all(getattr(edgeseg, name) is getattr(runtime, name) for name in edgeseg.__all__)\n"
            "print(sorted({'onnxruntime', 'torch', 'onnx'} & set(sys.modules)))")
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split("\n")[:2] == ["[]", "[]"]


COMPLETIONS = {  # what stands on the line → some of what the last word may become
    "edgeseg exp": {"export", "export.onnx", "export.models"},
    "edgeseg export.onnx lrasp": {"lraspp", "lraspp-small"},
    "edgeseg export.onnx lraspp --prec": {"--precision"},
    "edgeseg export.onnx lraspp --precision ": {"fp32", "fp16", "int8"},
    "edgeseg benchmarks swe": {"sweep"},
    "edgeseg benchmarks sweep --mod": {"--models"},
    "edgeseg runtime pyproj": {"pyproject.toml"},
}


def test_a_shell_completes_commands_flags_choices_networks_and_files(capsys, tmp_path):
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out + """
        ask() {
            COMP_LINE="$1"; read -ra COMP_WORDS <<< "$1"; [[ $1 == *" " ]] && COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
            _shtab_edgeseg edgeseg "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
        }
        """ + "\n".join(f'ask "{line}"' for line in COMPLETIONS), encoding="utf-8")
    done = subprocess.run([bash, script], cwd=ROOT, capture_output=True, text=True, check=True)
    for (line, expected), reply in zip(COMPLETIONS.items(), done.stdout.splitlines(), strict=True):
        assert expected <= set(reply.split()), line
        assert all(word.startswith(line.split(" ")[-1]) for word in reply.split()), line
