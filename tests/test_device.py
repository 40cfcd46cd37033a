"""What runs on a device that nobody looks after: the service and the image, and that both name what there is."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from runtime import sources
from runtime.__main__ import main
from runtime.errors import Stopped
from runtime.serve import Server
from tests.conftest import ROOT

DEVICE = ROOT / "examples" / "device"
SERVICE = (DEVICE / "edgeseg.service").read_text(encoding="utf-8")
DOCKERFILE = (DEVICE / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def service():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(SERVICE)
    return unit["Service"]


def instructions() -> list[tuple[str, str]]:
    """Dockerfile instructions with their words, lines joined."""
    lines = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(line.split()[0], " ".join(line.split()[1:])) for line in lines if line.strip()]


def parsed(words: list[str], monkeypatch) -> object:
    """The command's arguments, as it would take them."""
    from runtime import cli

    taken: list[object] = []
    monkeypatch.setattr(cli, "run", lambda run, parser, argv=None: taken.append(parser.parse_args(argv)) or 0)
    assert main(words) == 0
    return taken[0]


def test_the_service_is_one_that_systemd_takes(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / "edgeseg.service"
    unit.write_text(SERVICE.replace("/opt/edgeseg/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    about_ours = [line for line in done.stderr.splitlines() if "edgeseg" in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr


def test_the_service_runs_a_command_that_there_is_and_ends_as_the_command_does(service, monkeypatch):
    python, *words = shlex.split(service["ExecStart"])
    assert (python, words[:2]) == ("/opt/edgeseg/bin/python", ["-m", "runtime"])
    args = parsed(words[2:], monkeypatch)
    assert str(args.save).startswith(f"/var/lib/{service['StateDirectory']}/")
    assert int(service["SuccessExitStatus"]) == Stopped(15).exit_code
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"


def test_the_watchdog_waits_longer_than_a_camera_may_be_away(service):
    assert int(service["WatchdogSec"]) > sources.RECONNECT_S


def test_the_service_may_see_cameras_and_write_nowhere_else(service):
    assert (service["ProtectSystem"], service["DynamicUser"], service["SupplementaryGroups"]) == (
        "strict", "yes", "video")
    assert service["DeviceAllow"] == "char-video4linux rw"
    assert service["CapabilityBoundingSet"] == ""


def test_the_image_is_of_the_base_install_in_order_and_not_roots(monkeypatch):
    said = instructions()
    assert said[0][0] == "FROM"
    version = re.fullmatch(r"python:(3\.\d+)-slim-\w+", said[0][1])
    assert version, "a Python by its version, so that a build next year is of the same"
    copied = " ".join(words for name, words in said if name == "COPY").split()
    assert all((ROOT / name).exists() for name in copied if name != "./")
    (install,) = [words for name, words in said if name == "RUN" and "pip install" in words]
    assert install.endswith(" .")
    assert "[" not in install
    assert [name for name, _ in said].index("USER") < [name for name, _ in said].index("ENTRYPOINT")
    (entry,) = [words for name, words in said if name == "ENTRYPOINT"]
    assert entry == '["python", "-m", "runtime"]'
    (command,) = [words for name, words in said if name == "CMD"]
    assert parsed(eval(command), monkeypatch).serve == 8000


def test_the_image_asks_the_page_for_its_health():
    (check,) = [words for name, words in instructions() if name == "HEALTHCHECK"]
    code = eval(check.split("CMD ")[1])[-1]
    server = Server("tiny", (), (), 0)
    try:
        done = subprocess.run([sys.executable, "-c", code.replace("8000", str(server.port))], check=False,
                              capture_output=True, timeout=60)
        assert done.returncode == 1
        assert b"503" in done.stderr  # no frame so far
    finally:
        server.close()
