"""Settings are measured, remembered per artifact and machine, and used; never guessed."""

from __future__ import annotations

import dataclasses
import os

import cv2
import pytest

from runtime import Stream, tune
from runtime.artifact import open_artifact
from runtime.channel import Policy
from runtime.tune import Setting, Tuning
from tests.colours import numbered

TUNING = Tuning(Setting(3, 1), Setting(1, 2), {"3x1": 9.0, "1x2": 7.0})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgeseg"


@pytest.mark.parametrize(("cores", "expected"), [
    (1, ["1x1"]), (2, ["1x1", "1x2", "2x1"]), (3, ["1x1", "1x2", "1x3", "2x1", "3x1"]),
    (4, ["1x1", "1x2", "1x4", "2x1", "2x2", "4x1"])])
def test_all_settings_that_fit_the_cores_are_tried(cores, expected):
    assert [f"{s.workers}x{s.threads}" for s in tune.candidates(cores)] == expected


def test_files_get_the_highest_rate_and_cameras_the_fastest_single_frame(artifact):
    def rate(sessions, x, seconds):
        assert x.shape == (1, 16, 48, 3)
        return {1: 10.0, 2: 16.0, 4: 12.0}[len(sessions)]

    settings = [Setting(1, 2), Setting(2, 1), Setting(4, 1)]
    tuning = tune.tune(*open_artifact(artifact), settings=settings, rate=rate)
    assert tuning == Tuning(Setting(2, 1), Setting(1, 2), {"1x2": 10, "2x1": 16, "4x1": 12})
    assert tuning.setting(Policy.EVERY) == Setting(2, 1)
    assert tuning.setting(Policy.LATEST) == Setting(1, 2)


def test_one_slow_round_does_not_decide(artifact):
    turns = iter([1.0, 9.0] + [10.0, 9.0] * (tune.ROUNDS - 1))  # the better one is disturbed in the first round
    tuning = tune.tune(*open_artifact(artifact), settings=[Setting(1, 1), Setting(2, 1)], rate=lambda *_: next(turns))
    assert tuning.every == Setting(1, 1)


def test_really_measuring_counts_frames(artifact, monkeypatch):
    monkeypatch.setattr(tune, "SECONDS", 0.01)
    assert all(fps > 0 for fps in tune.tune(*open_artifact(artifact)).fps.values())


def test_what_was_measured_is_remembered_for_this_artifact_only(artifact, cache):
    described = open_artifact(artifact)[0]
    assert tune.recall(described) is None
    path = tune.remember(described, TUNING)
    assert tune.recall(described) == TUNING
    assert tune.recall(dataclasses.replace(described, sha256="0" * 64)) is None
    assert list(cache.iterdir()) == [path]


def test_another_machine_knows_nothing_of_it(artifact, monkeypatch):
    described = open_artifact(artifact)[0]
    tune.remember(described, TUNING)
    monkeypatch.setattr(tune, "cores", lambda: 99)
    assert tune.recall(described) is None


@pytest.mark.parametrize("content", ["", "[]", '{"every": {"workers": 1}}'])
def test_a_damaged_memory_is_reported_and_not_used(artifact, content, caplog):
    described = open_artifact(artifact)[0]
    tune.remember(described, TUNING).write_text(content)
    assert tune.recall(described) is None
    assert "tune again" in caplog.text


@pytest.mark.parametrize(("options", "expected"), [
    ({}, (3, 1)), ({"policy": Policy.LATEST}, (1, 2)), ({"workers": 2}, (2, 1)), ({"threads": 1}, (1, 1))])
def test_a_stream_uses_what_is_remembered_unless_it_is_told_otherwise(artifact, options, expected):
    tune.remember(open_artifact(artifact)[0], TUNING)
    with Stream(artifact, [numbered(0)], **options) as stream:
        assert (stream.workers, stream.threads) == expected


def test_the_command_tunes_and_says_what_it_found(command, artifact, tmp_path, cache):
    cv2.imwrite(str(tmp_path / "one.png"), numbered(1))
    done = command(artifact, "--source", tmp_path / "one.png", "--tune", env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "tuned (workers x threads): 1x1 " in done.stderr
    assert len(list(cache.iterdir())) == 1
