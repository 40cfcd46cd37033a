"""The wheel and the sdist, built from what is committed here, installed into a fresh environment and run there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import colours
from tests.conftest import PACKAGES, ROOT

pytestmark = pytest.mark.slow

BUILD = "import sys, setuptools.build_meta as it; print(getattr(it, sys.argv[1])(sys.argv[2]))"


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def tracked() -> list[str]:
    try:
        return run("git", "ls-files", cwd=ROOT).splitlines()
    except (OSError, AssertionError):
        pytest.skip("not a checkout of git, which says what belongs to the source")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three files: the wheel of the source, its sdist, and the wheel of that sdist."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    sdist = folder / run(sys.executable, "-c", BUILD, "build_sdist", folder, cwd=source).split()[-1]
    wheel = folder / run(sys.executable, "-c", BUILD, "build_wheel", folder, cwd=source).split()[-1]
    shutil.unpack_archive(sdist, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    again = run(sys.executable, "-c", BUILD, "build_wheel", folder / "unpacked", cwd=unpacked).split()[-1]
    return {"wheel": wheel, "sdist": sdist, "sdist's wheel": folder / "unpacked" / again}


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_has_every_file_of_the_packages_and_no_other_of_the_tree(built):
    ours = {name for name in tracked() if name.split("/")[0] in PACKAGES and not name.endswith("ruff.toml")}
    assert files_in(built["wheel"]) == ours


def test_the_sdist_makes_the_same_wheel(built):
    assert files_in(built["sdist's wheel"]) == files_in(built["wheel"])


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new environment, with what the base install depends on and nothing of ours."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    asked = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\ndependencies = [")[1].split("\n]")[0]
    names = [line.split('"')[1] for line in asked.splitlines() if '"' in line]
    done = subprocess.run([folder / "bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", *names],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{', '.join(names)} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_installed_runs_a_video_and_says_its_version(built, fresh, tmp_path, kind):
    artifact, video = colours.artifact(tmp_path), colours.clip(tmp_path / "clip.avi", 4)
    run(fresh / "pip", "install", "--quiet", "--no-deps", "--force-reinstall", built[kind], cwd=tmp_path)
    run(fresh / "pip", "check", cwd=tmp_path)
    assert run(fresh / "edgeseg", "--version", cwd=tmp_path).startswith("edgeseg ")
    assert "edgeseg export.onnx" in run(fresh / "edgeseg", cwd=tmp_path)
    run(fresh / "edgeseg", "runtime", artifact, "--source", video, "--masks", tmp_path / "masks", cwd=tmp_path)
    assert len(list((tmp_path / "masks").iterdir())) == 4
    code = ("import sys, edgeseg, numpy as np\n"
            "with edgeseg.Segmenter.open(sys.argv[1]) as segmenter:\n"
            "    print(edgeseg.__file__, segmenter(np.zeros((32, 96, 3), np.uint8)).mask.shape)")
    where, *shape = run(fresh / "python", "-c", code, artifact, cwd=tmp_path).split()
    assert Path(where).is_relative_to(fresh.parent)
    assert shape == ["(32,", "96)"]


def test_a_command_whose_extra_is_not_installed_names_the_extra(built, fresh, tmp_path):
    run(fresh / "pip", "install", "--quiet", "--no-deps", "--force-reinstall", built["wheel"], cwd=tmp_path)
    for words, extra in ((("export.onnx", "lraspp"), "export"), (("completion", "bash"), "completion")):
        done = subprocess.run([fresh / "edgeseg", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert f"edgeseg[{extra}]" in done.stderr
