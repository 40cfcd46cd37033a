"""The stream: every frame once and in order, errors in their place, and no thread that outlives the loop."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from runtime import Stream
from runtime.channel import Policy
from runtime.errors import Incomplete, StageFailed, UserError
from runtime.sources import Shot, Source
from tests.colours import clip, number_of, numbered
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("edgeseg")] == []


def numbers(stream) -> list[int]:
    return [number_of(result.mask) for result in stream]


def test_a_loop_over_a_video_gives_mask_overlay_times_index_and_timestamp(artifact, tmp_path):
    results = list(Stream(artifact, str(clip(tmp_path / "in.mp4", 6, fps=10))))
    assert [number_of(r.mask) for r in results] == [r.index for r in results] == list(range(6))
    assert [round(r.timestamp, 3) for r in results] == [i / 10 for i in range(6)]
    assert {r.overlay.shape for r in results} == {r.frame.shape for r in results} == {(32, 96, 3)}
    assert set(results[0].stages_ms) == {"read", "preprocess", "inference", "mask", "draw"}
    assert all(r.age_ms > 0 and r.dropped == 0 for r in results)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_frame_comes_once_and_in_order_however_many_work_on_them(artifact, workers):
    stream = Stream(artifact, (numbered(i) for i in range(200)), workers=workers, draw=False)
    assert numbers(stream) == list(range(200))


def test_under_latest_frames_are_dropped_counted_and_never_go_back(artifact):
    reading = threading.Event()

    def shots():
        for i in range(50):
            yield Shot(numbered(i), i / 30)
        reading.set()

    stream = Stream(artifact, Source("camera", 30, 0, True, shots()), draw=False)
    assert stream.policy is Policy.LATEST
    results = []
    for result in stream:
        assert reading.wait(10)  # the camera goes on while this loop is busy with its first frame
        results.append(result)
    assert [number_of(r.mask) for r in results] == [r.index for r in results]
    assert [r.index for r in results] == sorted({r.index for r in results})
    assert results[-1].index == 49
    assert len(results) + stream.dropped == 50
    assert stream.dropped > 30


def test_a_file_under_latest_plays_at_its_own_rate(artifact, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("runtime.sources.monotonic", lambda: 0.0)
    source = clip(tmp_path / "in.mp4", 5, fps=10)
    stream = Stream(artifact, str(source), policy=Policy.LATEST, draw=False)
    monkeypatch.setattr(stream.source.closed, "wait", lambda s: waits.append(round(s, 3)))
    list(stream)
    assert waits == [0, 0.1, 0.2, 0.3, 0.4]


def test_leaving_the_loop_early_ends_everything(artifact):
    for result in Stream(artifact, (numbered(i) for i in range(10_000)), workers=2):
        if result.index == 3:
            break
    assert [t.name for t in threading.enumerate() if t.name.startswith("edgeseg")] == []


def test_closing_from_outside_ends_the_loop(artifact):
    stream = Stream(artifact, (numbered(i % 4096) for i in range(10**9)), draw=False)
    seen = 0
    for _ in stream:
        seen += 1
        if seen == 5:
            stream.close()
    assert seen <= 6


def test_a_program_that_ends_in_the_middle_of_a_stream_ends_well(artifact):
    code = ("import itertools, sys; from runtime import Stream; from tests.colours import numbered\n"
            "stream = iter(Stream(sys.argv[1], (numbered(i % 4096) for i in itertools.count()), workers=2))\n"
            "print(next(stream).index)")
    done = subprocess.run([sys.executable, "-c", code, artifact], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_stream_can_be_iterated_over_once(artifact):
    stream = Stream(artifact, [numbered(0)])
    list(stream)
    with pytest.raises(RuntimeError, match="once"):
        list(stream)


def test_a_stream_that_is_never_iterated_over_can_be_closed(artifact):
    with Stream(artifact, [numbered(0)]) as stream:
        assert not stream.source.closed.is_set()
    assert stream.source.closed.is_set()


def collect(stream) -> tuple[list[int], BaseException | None]:
    """What came before the error, and the error."""
    got: list[int] = []
    try:
        for result in stream:
            got.append(number_of(result.mask))
    except Exception as error:
        return got, error
    return got, None


def failing_at_11(real):
    """Both the frame and the logits that the colours network makes of it are brightest where the number says so."""
    def fail(first, *rest):
        if number_of(first.argmax(2)) == 11:
            raise ZeroDivisionError("oh")
        return real(first, *rest)

    return fail


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stage", ["read", "inference", "finish"])
def test_an_error_names_its_stage_and_comes_after_all_frames_before_it(artifact, workers, stage, monkeypatch):
    def frames():
        for i in range(30):
            if stage == "read" and i == 11:
                raise ZeroDivisionError("oh")
            yield numbered(i)

    stream = Stream(artifact, frames(), workers=workers)
    if stage != "read":
        where = {"inference": "prepare", "finish": "mask"}[stage]
        for segmenter in stream._segmenters:
            monkeypatch.setattr(segmenter, where, failing_at_11(getattr(segmenter, where)))
    got, error = collect(stream)
    assert got == list(range(11))
    assert isinstance(error, StageFailed)
    assert str(error) == f"the {stage} stage failed at frame 11 (ZeroDivisionError: oh)"


def test_an_incomplete_source_is_told_in_its_own_words_after_its_frames(artifact):
    def shots():
        yield Shot(numbered(0), 0)
        raise Incomplete("cut off")

    got, error = collect(Stream(artifact, Source("x", 0, 0, False, shots())))
    assert got == [0]
    assert isinstance(error, Incomplete)
    assert str(error) == "cut off"


def test_a_users_mistake_inside_a_stage_keeps_its_exit_code(artifact):
    _, error = collect(Stream(artifact, [np.zeros((4, 4), np.uint8)]))
    assert isinstance(error, StageFailed)
    assert error.exit_code == 2
    assert "uint8 [height, width, 3]" in str(error)


def test_a_refinement_sees_frame_output_and_mask_and_its_mask_is_used(artifact):
    def refine(frame, output, mask):
        assert (frame.shape, output.shape, mask.shape) == ((32, 96, 3), (4, 12, 3), (32, 96))
        return np.full_like(mask, 1)

    result, = Stream(artifact, [numbered(7, (32, 96))], refine=refine)
    assert (result.mask == 1).all()
    assert "refine" in result.stages_ms


def test_an_artifact_that_cannot_be_opened_is_refused_before_the_source_is(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Stream(tmp_path / "absent.onnx", "0")
