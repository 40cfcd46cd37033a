"""Sources and outputs in a bucket: an S3 server of this test's own, on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from runtime.batch.__main__ import main
from runtime.batch.store import Bucket, Folder
from runtime.video import bytes_of_png
from tests import colours
from tests.runtime.batch.clips import h264

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture
def s3(monkeypatch) -> Iterator[object]:
    """fsspec's file system on a server with one empty bucket; workers find it through the environment."""
    import fsspec

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    _, port = running.get_host_and_port()
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
                        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("videos")
    yield files
    files.rm("videos", recursive=True)  # the server's memory is this process's
    running.stop()
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_bucket_and_a_folder_are_the_same_to_us(s3, tmp_path):
    for store in (Folder(tmp_path), Bucket("s3://videos/root")):
        store.write("x/a.mp4", b"12345")
        store.write("x/a.mp4", b"123")
        store.write("x/y/b.mp4", b"4")
        store.write("c.png", b"5")
        assert [name for name, _ in store.find("**/*")] == ["c.png", "x/a.mp4", "x/y/b.mp4"]
        assert [name for name, _ in store.find("x/*.mp4")] == ["x/a.mp4"]
        assert store.names("x") == ["a.mp4"]
        assert store.names("nowhere") == []
        assert store.read("x/a.mp4") == b"123"
        with pytest.raises(FileNotFoundError):
            store.read("x/nothing")
        ((_, before),) = store.find("c.png")
        store.write("c.png", b"6")
        ((_, after),) = store.find("c.png")
        assert before != after
        store.clear("x")
        store.clear("nowhere")
        assert [name for name, _ in store.find("**/*")] == ["c.png"]


@pytest.mark.slow
@pytest.mark.parametrize("ray", [(), ("--ray", "local")])
def test_a_video_and_images_in_a_bucket_become_masks_in_a_bucket(artifact, tmp_path, s3, capsys, ray, monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")
    if ray:
        pytest.importorskip("ray")
    s3.pipe_file("videos/in/day/a.mp4", h264(tmp_path / "a.mp4", 25, b_frames=2).read_bytes())
    s3.pipe_file("videos/in/broken.mp4", b"nothing")
    for number in range(3):
        s3.pipe_file(f"videos/in/stills/{number}.png", bytes_of_png(colours.numbered(number + 100)))
    words = [str(artifact), "--source", "s3://videos/in", "--out", "s3://videos/out", "--segment-frames", "10",
             "--workers", "2", *ray]
    assert main(words) == 1
    assert "broken.mp4 cannot be read as a video" in capsys.readouterr().out
    s3.invalidate_cache()

    def numbers(folder: str) -> list[int]:
        return [colours.number_of(cv2.imdecode(np.frombuffer(s3.cat_file(path), np.uint8), -1))
                for path in sorted(s3.glob(f"{folder}/*.png"))]

    assert numbers("videos/out/day/a.mp4") == list(range(25))
    assert numbers("videos/out/stills") == [100, 101, 102]
    found = [json.loads(line) for line in s3.cat_file("videos/out/manifest.jsonl").splitlines()]
    assert [(row["item"], row["status"]) for row in found] == [
        ("broken.mp4", "failed"), ("day/a.mp4", "done"), ("stills", "done")]
    s3.pipe_file("videos/in/broken.mp4", (tmp_path / "a.mp4").read_bytes())
    assert main(words) == 0
    assert "3 of 3 items done (2 by an earlier run): 25 frames" in capsys.readouterr().out


def test_a_scheme_that_nobody_knows_is_a_users_mistake(artifact, tmp_path, capsys):
    assert main([str(artifact), "--source", "nowhere://videos/in", "--out", str(tmp_path / "out")]) == 2
    assert "nowhere://videos/in cannot be reached" in capsys.readouterr().err
