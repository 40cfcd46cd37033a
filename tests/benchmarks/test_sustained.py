"""Minutes without a pause: what a curve says, and that a run that breaks off goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import latency, pipeline, sustained
from benchmarks.kept import KeptRounds
from benchmarks.measurement import Measurement, read, to_line
from benchmarks.sustained import Moment
from runtime.errors import UserError
from tests import colours
from tests.benchmarks import rows

MOMENTS = [Moment(5, 30, 40, 2400), Moment(50, 28, 60, 2400), Moment(100, 20, 80, 1500), Moment(110, 22, 82, 1500)]


def test_what_is_left_is_the_median_of_the_last_minute() -> None:
    assert sustained.values(MOMENTS) == {"first_fps": 30, "sustained_fps": 22}


def test_a_row_says_its_curve_in_words_and_one_without_says_nothing() -> None:
    own = rows.latency()
    entry = Measurement(**{**vars(own), "values": {**own.values, **sustained.values(MOMENTS)},
                           "details": {**own.details, **sustained.details(MOMENTS)}})
    assert sustained.words(entry) == (f"{own.label}: 30.0 FPS at first, 22.0 after 2 minutes, 40 to 82 °C, "
                                      "2400 to 1500 MHz")
    assert sustained.words(own) == ""


@pytest.mark.parametrize("curve", [{"at_s": [], "fps": [], "temperature_c": [], "clock_mhz": []},
                                   {"at_s": [1], "fps": [1, 2], "temperature_c": [None], "clock_mhz": [None]}])
def test_a_curve_with_holes_is_no_row(tmp_path: Path, curve: dict[str, Any]) -> None:
    own = rows.latency()
    (tmp_path / "rows.jsonl").write_text(to_line(Measurement(**{**vars(own), "details": {**own.details,
                                                                                         "sustained": curve}})))
    with pytest.raises(UserError, match="expected one value a moment"):
        read(tmp_path / "rows.jsonl")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute that two windows fill."""
    def run(minutes: int, window: Any, label: str) -> list[Moment]:
        return [Moment(at, *window()[:1]) for at in (30, 60)]

    monkeypatch.setattr(sustained, "run", run)


def test_latency_and_pipeline_take_a_curve_after_their_rounds(hasty: None, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "QUICK", latency.Rule(2, 0, 1, quick=True))
    monkeypatch.setattr("benchmarks.rounds.WINDOW_S", 0)
    monkeypatch.setattr("benchmarks.contenders.WINDOW_S", 0.05)
    monkeypatch.setattr("benchmarks.contenders.run", sustained.run)
    path, clip, kept = colours.artifact(tmp_path), colours.clip(tmp_path / "clip.avi", 4), tmp_path / "rows.jsonl"
    assert latency.main([str(path), "--quick", "--minutes", "1", "--rows", str(kept)]) == 0
    assert pipeline.main([str(path), "--source", str(clip), "--frames", "2", "--rounds", "1", "--minutes", "1",
                          "--rows", str(kept)]) == 0
    for entry in read(kept):
        assert entry.details["sustained"]["at_s"] == [30, 60], entry.kind
        assert entry.values["sustained_fps"] > 0


def test_windows_follow_each_other_until_the_minutes_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(sustained, "monotonic", lambda: next(clock))
    found = sustained.run(1, lambda: (10.0, {"temperature_c": 50.0}), "x")
    assert found == [Moment(at, 10.0, 50.0) for at in (25, 50, 75)]


def test_what_was_kept_is_there_for_the_same_run_alone_and_gone_when_it_is_done(tmp_path: Path) -> None:
    kept = KeptRounds(tmp_path, {"rule": "a"})
    assert kept.values == []
    kept.add([1, {"x": 2.5}])
    kept.add([2])
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + b'[3, {"cut')  # as a kill leaves it
    again = KeptRounds(tmp_path, {"rule": "a"})
    assert again.values == [[1, {"x": 2.5}], [2]]
    again.add([3])
    assert KeptRounds(tmp_path, {"rule": "a"}).values[-1] == [3]
    assert KeptRounds(tmp_path, {"rule": "b"}).values == []
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_without_a_place_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = KeptRounds(None, {})
    kept.add(1)
    kept.remove()
    assert list(tmp_path.iterdir()) == []
