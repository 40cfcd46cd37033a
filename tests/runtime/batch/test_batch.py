"""`python -m runtime.batch` from end to end: every mask is there once, whatever happens to those who make them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import Stream
from runtime.batch.__main__ import main
from runtime.batch.items import find_items
from runtime.errors import UserError
from tests import colours
from tests.conftest import ROOT
from tests.runtime.batch.clips import h264


def batch(artifact, source, out, *more: object) -> list[str]:
    """The command's words."""
    return [str(artifact), "--source", str(source), "--out", str(out), "--workers", "2", "--segment-frames", "10",
            *map(str, more)]


def rows(out: Path) -> dict[str, dict]:
    return {row["item"]: row for row in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())}


def numbers(folder: Path) -> list[int]:
    """What the masks of an item carry, in the order of their names."""
    return [colours.number_of(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in sorted(folder.glob("*.png"))]


def left_behind(out: Path) -> list[str]:
    return [str(path) for path in out.rglob(".*")]


def test_videos_and_folders_become_masks_and_a_manifest_and_a_second_run_has_nothing_to_do(artifact, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "trip").mkdir(parents=True)
    h264(source / "trip" / "front.mp4", 25, b_frames=2, open_gop=True)
    (source / "stills").mkdir()
    for number in range(3):
        cv2.imwrite(str(source / "stills" / f"{number}.png"), colours.numbered(number + 100))
    assert main(batch(artifact, source, out)) == 0
    assert numbers(out / "trip" / "front.mp4") == list(range(25))
    assert numbers(out / "stills") == [100, 101, 102]
    found = rows(out)
    assert {(name, row["status"], row["frames"], row["segments"]) for name, row in found.items()} == {
        ("trip/front.mp4", "done", 25, 3), ("stills", "done", 3, 1)}
    assert sum(found["stills"]["shares"].values()) == pytest.approx(1)
    assert found["stills"]["shares"]["red"] == pytest.approx(np.mean([3, 4, 4]) / 12)
    assert "2 of 2 items done: 28 frames" in capsys.readouterr().out
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert main(batch(artifact, source, out)) == 0
    assert "2 of 2 items done (2 by an earlier run): 0 frames" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == times


@pytest.mark.slow
def test_a_source_that_changed_is_done_again_and_its_old_masks_are_gone(artifact, tmp_path):
    source, out = h264(tmp_path / "a.mp4", 25), tmp_path / "out"
    assert main(batch(artifact, source, out)) == 0
    h264(source, 13)
    assert main(batch(artifact, source, out)) == 0
    assert numbers(out / "a.mp4") == list(range(13))


@pytest.mark.slow
def test_masks_are_those_of_the_runtime(artifact, tmp_path):
    source, out = colours.clip(tmp_path / "a.mp4", 30), tmp_path / "out"
    assert main(batch(artifact, source, out)) == 0
    for result in Stream(artifact, str(source), draw=False):
        assert np.array_equal(cv2.imread(str(out / "a.mp4" / f"{result.index:06d}.png"), -1), result.mask)


@pytest.mark.slow
def test_run_length_codes_are_read_by_cocos_own_tools_and_are_the_masks(artifact, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    source, out = h264(tmp_path / "a.mp4", 25), tmp_path / "out"
    assert main(batch(artifact, source, out, "--masks", "rle")) == 0
    found = {}
    for path in sorted((out / "a.mp4").glob("masks-*.json")):
        masks = coco.COCO(str(path))
        for image in masks.getImgIds():
            mask = np.full((32, 96), 255, np.uint8)
            for annotation in masks.loadAnns(masks.getAnnIds(image)):
                assert masks.annToMask(annotation).sum() == annotation["area"]
                mask[masks.annToMask(annotation) == 1] = annotation["category_id"] - 1
            found[image] = colours.number_of(mask)
            assert mask.max() < 3  # every pixel has its class
    assert found == {number: number for number in range(25)}


@pytest.mark.slow
def test_the_parquet_files_are_one_table_with_masks_and_counts(artifact, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    source, out = h264(tmp_path / "a.mp4", 25), tmp_path / "out"
    assert main(batch(artifact, source, out, "--masks", "parquet")) == 0
    table = pq.read_table(sorted((out / "a.mp4").glob("*.parquet"))).to_pylist()
    assert [row["frame"] for row in table] == list(range(25))
    for row in table:
        mask = cv2.imdecode(np.frombuffer(row["mask"], np.uint8), cv2.IMREAD_UNCHANGED)
        assert colours.number_of(mask) == row["frame"]
        assert [row[f"pixels_{name}"] for name in colours.CLASSES] == [(mask == index).sum() for index in range(3)]
    assert table[24]["seconds"] == pytest.approx(24 / 25)


@pytest.mark.slow
def test_overlays_of_all_segments_hold_every_frame(artifact, tmp_path):
    source, out = h264(tmp_path / "a.mp4", 25), tmp_path / "out"
    assert main(batch(artifact, source, out, "--video")) == 0
    counts = []
    for path in sorted((out / "a.mp4").glob("overlay-*.mp4")):
        capture, count = cv2.VideoCapture(str(path)), 0
        while capture.read()[0]:
            count += 1
        counts.append((path.name, count))
    assert counts == [("overlay-000000.mp4", 10), ("overlay-000010.mp4", 10), ("overlay-000020.mp4", 5)]


@pytest.mark.slow
def test_one_broken_video_among_twelve_fails_alone_and_is_done_when_it_is_whole(artifact, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for number in range(12):
        h264(source / f"{number:02}.mp4", 12)
    whole = (source / "05.mp4").read_bytes()
    (source / "05.mp4").write_bytes(whole[:200])
    assert main(batch(artifact, source, out)) == 1
    said = capsys.readouterr()
    assert "05.mp4 cannot be read as a video" in said.out
    assert "11 of 12 items done" in said.out
    assert "1 of 12 items failed; all others are done" in said.err
    assert {name for name, row in rows(out).items() if row["status"] == "failed"} == {"05.mp4"}
    assert rows(out)["05.mp4"]["reason"]
    (source / "05.mp4").write_bytes(whole)
    assert main(batch(artifact, source, out)) == 0
    assert "12 of 12 items done (11 by an earlier run): 12 frames" in capsys.readouterr().out
    assert all(numbers(out / f"{number:02}.mp4") == list(range(12)) for number in range(12))


def start(*words: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "runtime.batch", *map(str, words)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def wait_for(count: int, out: Path, process: subprocess.Popen[str]) -> set[Path]:
    """Wait until so many segments are finished; their records."""
    end = time.monotonic() + 240
    while len(found := set(out.glob("*/done/*.json"))) < count and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds child processes through Linux's /proc")
def test_a_worker_that_is_killed_costs_no_mask(artifact, tmp_path):
    source, out = h264(tmp_path / "a.mp4", 1000), tmp_path / "out"
    with start(*batch(artifact, source, out)) as process:
        wait_for(5, out, process)
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(workers[0], signal.SIGKILL)
        assert process.wait() == 0
    assert numbers(out / "a.mp4") == list(range(1000))
    assert rows(out)["a.mp4"]["frames"] == 1000
    assert left_behind(out) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on_where_it_was(artifact, tmp_path, number):
    source, out = h264(tmp_path / "a.mp4", 1000), tmp_path / "out"
    with start(*batch(artifact, source, out)) as process:
        wait_for(5, out, process)
        process.send_signal(number)
        assert process.wait() == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    time.sleep(2)  # workers whose parent was killed end after their segment
    if number != signal.SIGKILL:
        assert left_behind(out) == []
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/done/*.json")}
    assert 5 <= len(before) < 100
    assert main(batch(artifact, source, out)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert numbers(out / "a.mp4") == list(range(1000))
    assert len(list(out.glob("*/done/*.json"))) == 100
    assert left_behind(out) == []


@pytest.mark.slow
def test_a_full_disk_fails_what_does_not_fit_and_room_lets_the_rest_be_done(artifact, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    h264(source / "a.mp4", 25)
    for number in range(2):
        cv2.imwrite(str(source / f"{number}.png"), np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # noqa: E731
    with start(*batch(artifact, source, out), preexec_fn=limit) as process:
        said, _ = process.communicate()
        assert process.returncode == 1
    assert "File too large" in said
    assert {name: row["status"] for name, row in rows(out).items()} == {"a.mp4": "done", "images": "failed"}
    assert left_behind(out) == []
    assert main(batch(artifact, source, out)) == 0
    assert {row["status"] for row in rows(out).values()} == {"done"}


def test_an_output_of_another_artifact_is_refused_before_anything_is_done(artifact, tmp_path, capsys):
    source, out = colours.clip(tmp_path / "a.mp4", 3), tmp_path / "out"
    assert main(batch(artifact, tmp_path / "b.mp4", out)) == 2
    assert "b.mp4 holds neither" in capsys.readouterr().err
    out.mkdir()
    (out / "run.json").write_text('{"format": 1, "artifact": "another"}')
    assert main(batch(artifact, source, out)) == 2
    assert "holds another run's masks" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["run.json"]
    assert main(batch(artifact, tmp_path, tmp_path / "inside")) == 2
    assert "where sources are looked for" in capsys.readouterr().err


def test_sources_are_folders_patterns_files_and_lists_of_them(tmp_path):
    for name in ("day/a.mp4", "day/b.mp4", "night/a.mp4", "night/x.txt", "stills/1.png", "stills/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def names(*sources: str) -> list[str]:
        return [item.name for item in find_items([str(tmp_path / source) for source in sources])]

    assert names(".") == ["day/a.mp4", "day/b.mp4", "night/a.mp4", "stills"]
    assert names("day") == ["a.mp4", "b.mp4"]
    assert names("day/b.mp4", "stills") == ["b.mp4", "images"]
    assert names("*/a.mp4") == ["day/a.mp4", "night/a.mp4"]
    lines = ["# of Monday", *(f"{tmp_path}/{name}" for name in ("night/a.mp4", "day", "day/gone.mp4"))]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert names("list.txt") == ["night/a.mp4", "day/a.mp4", "day/b.mp4", "day/gone.mp4"]
    with pytest.raises(UserError, match=r"would both be written to a\.mp4"):
        names("day/a.mp4", "night/a.mp4")
    with pytest.raises(UserError, match="holds neither a video nor an image"):
        names("night/*.txt*")
    (image,) = find_items([str(tmp_path / "stills")])
    (tmp_path / "stills" / "3.png").write_bytes(b"")
    assert find_items([str(tmp_path / "stills")])[0].version != image.version
