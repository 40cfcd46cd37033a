"""The same on a Ray cluster: two nodes of this machine, which share nothing but its disk, and one of them dies."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from runtime.signals import ENDINGS, own_handlers
from tests.runtime.batch.clips import h264
from tests.runtime.batch.test_batch import batch, left_behind, numbers, rows, start, wait_for

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch) -> Iterator[object]:
    """A head that works not, and two nodes of one core each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # as ours have; Ray yields to all others on a machine
    from ray.cluster_utils import Cluster

    with own_handlers():
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    made.shutdown()


def nodes_of(process: subprocess.Popen[str]) -> list[str]:
    """The machines that the summary names."""
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return said.split(" frames/s on ")[1].split(" → ")[0].split(", ")


def test_both_nodes_work_and_one_that_dies_in_the_middle_costs_no_mask(artifact, tmp_path, cluster):
    source, out = h264(tmp_path / "a.mp4", 2000), tmp_path / "out"
    with start(*batch(artifact, source, out, "--ray", cluster.address)) as process:
        before = wait_for(10, out, process)
        cluster.remove_node(cluster.nodes[1], allow_graceful=False)
        assert 10 <= len(before) < 200
        assert len(nodes_of(process)) == 2
    assert numbers(out / "a.mp4") == list(range(2000))
    assert rows(out)["a.mp4"]["frames"] == 2000
    assert left_behind(out) == []


def test_a_driver_that_was_killed_leaves_a_cluster_on_which_another_goes_on(artifact, tmp_path, cluster):
    source, out = h264(tmp_path / "a.mp4", 1000), tmp_path / "out"
    words = batch(artifact, source, out, "--ray", cluster.address)
    with start(*words) as process:
        wait_for(10, out, process)
        process.kill()
    time.sleep(3)  # the cluster ends the actors of a driver that is gone
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/done/*.json")}
    assert 10 <= len(before) < 100
    with start(*words) as process:
        nodes_of(process)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert numbers(out / "a.mp4") == list(range(1000))


@pytest.mark.parametrize("number", ENDINGS)
def test_a_cluster_of_this_machines_own_ends_with_the_run_that_is_stopped(artifact, tmp_path, number):
    """Ray has a handler of its own for SIGTERM, which would end the run at once and with another code."""
    source, out = h264(tmp_path / "a.mp4", 1000), tmp_path / "out"
    words = batch(artifact, source, out, "--ray", "local")
    with start(*words) as process:
        before = wait_for(10, out, process)
        process.send_signal(number)
        assert process.wait(120) == 128 + number
        assert "interrupted; finished files are kept" in process.stderr.read()
    assert 10 <= len(before) < 100
    assert left_behind(out) == []


def test_one_broken_video_among_twelve_fails_alone(artifact, tmp_path, cluster):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for number in range(12):
        h264(source / f"{number:02}.mp4", 12)
    (source / "05.mp4").write_bytes(b"rubbish")
    with start(*batch(artifact, source, out, "--ray", cluster.address)) as process:
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "05.mp4 cannot be read as a video" in said
    assert {name for name, row in rows(out).items() if row["status"] == "failed"} == {"05.mp4"}


def test_an_address_where_nobody_answers_is_a_users_mistake(artifact, tmp_path):
    source, out = h264(tmp_path / "a.mp4", 3), tmp_path / "out"
    with start(*batch(artifact, source, out, "--ray", "127.0.0.1:1")) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in errors
