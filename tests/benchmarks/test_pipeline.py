"""What the runtime adds to the engine: that the right things are compared, not how fast this machine is."""

from __future__ import annotations

import pytest

from benchmarks import contenders, measurement, pipeline
from runtime import Stream
from runtime.artifact import OutputKind
from runtime.errors import StageFailed
from tests import colours


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Low-resolution logits, full-size logits, and a clip."""
    folder = tmp_path_factory.mktemp("pipeline")
    return (colours.artifact(folder), colours.artifact(folder, output=OutputKind.LOGITS),
            colours.clip(folder / "clip.mp4", 5))


def test_all_contenders_run_on_the_same_artifact_and_become_one_row(engines, tmp_path, capsys):
    low, full, clip = engines
    assert pipeline.main([str(low), "--source", str(clip), "--naive", str(full), "--frames", "8", "--rounds", "2",
                          "--camera-fps", "500", "--rows", str(tmp_path / "rows.jsonl")]) == 0
    printed = capsys.readouterr().out
    for name in ("engine only ", "engine only, 2 at a time", "pipeline ", "pipeline, 2 at a time", "naive loop"):
        assert f"\n{name}" in printed
    row, = measurement.read(tmp_path / "rows.jsonl")
    assert (row.kind, row.samples) == ("pipeline", 16)
    assert row.values["naive_loop_over_engine_only"] > 0
    assert row.values["camera_shown"] == 8
    assert row.values["camera_age_p90_ms"] >= row.values["camera_age_p50_ms"] > 0


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians():
    turns = {"a": pipeline.Turns([10, 90, 30]), "b": pipeline.Turns([20, 30, 20])}
    assert pipeline.ratio(turns, "a", "b") == (1.5, 0.5, 3)


def test_a_repeated_source_starts_again_at_its_end(engines):
    shots = contenders.repeated(str(engines[2]), 10).shots
    numbers = [colours.number_of(next(shots).image.argmax(2)) for _ in range(12)]
    assert numbers == [0, 1, 2, 3, 4] * 2 + [0, 1]


def test_the_memory_is_watched_over_as_many_frames_as_asked_for(engines, capsys):
    assert pipeline.main([str(engines[0]), "--source", str(engines[2]), "--steady", "600"]) == 0
    assert "600 frames: " in capsys.readouterr().out


def test_a_slope_of_the_memory_needs_more_than_a_few_frames(engines, capsys):
    assert pipeline.main([str(engines[0]), "--source", str(engines[2]), "--steady", "99"]) == 2
    assert "expected 500 or more" in capsys.readouterr().err


def test_one_frame_per_round_is_enough(engines, capsys):
    assert pipeline.main([str(engines[0]), "--source", str(engines[2]), "--frames", "1", "--rounds", "1"]) == 0
    assert "1 shown" in capsys.readouterr().out


def test_the_naive_loop_refuses_an_artifact_without_full_logits(engines, capsys):
    low, _, clip = engines
    assert pipeline.main([str(low), "--source", str(clip), "--naive", str(low)]) == 2
    assert "--output logits" in capsys.readouterr().err


def test_an_error_inside_the_stream_is_not_timed_as_if_it_were_a_result(engines):
    def fail(*_):
        raise ZeroDivisionError

    stream = Stream(engines[0], [colours.numbered(0)] * 50)
    stream._segmenters[0].mask = fail
    with pytest.raises(StageFailed):
        contenders.whole_way(stream, 10)
