"""Which layer of one file is which of another, whose time a kernel's is, and what is said of it; never how fast."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from benchmarks import layers
from benchmarks.layers import Side, main, measured, pairs, sentence, sides, table
from calibration.quantise.graph import FloatGraph
from export.layers import BEFORE, TimedLayer
from export.onnx.layers import timed
from runtime.artifact import json_path, open_artifact, write_artifact
from runtime.errors import UserError
from runtime.sessions import engines
from tests import lite

NAMES = ["stem.0", "down.0", "gate.1", "classifier"]


def side(engine: Path, name: str, *found: TimedLayer, frame_ms: float = 2.0) -> Side:
    """A side with three turns alike."""
    return Side(*open_artifact(engine), name, [[frame_ms]] * 3, [list(found)] * 3)


def layer(name: str, ms: float, kind: str = "3x3", channels: int = 12, cells: tuple[int, ...] = (8, 12)) -> TimedLayer:
    return TimedLayer(name, kind, (channels, channels), cells, ms)


def needed(*names: str) -> None:
    for name in names:
        if hindrance := engines()[name].hindrance():
            pytest.skip(hindrance)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_every_layer_of_a_file_gets_its_time_and_the_rest_is_before_the_first(engine: Path, name: str) -> None:
    needed(name)
    one = Side(*open_artifact(engine), name)
    found, _ = measured(one, Side(*open_artifact(engine), name), rounds=1, runs=4)
    assert {pair.name for pair in found} == {BEFORE, *NAMES}
    assert [entry.name for entry in one.turns[0]] == [BEFORE, *NAMES]
    assert all(entry.ms > 0 for entry in one.turns[0])
    assert [str(entry) for entry in one.turns[0][1:3]] == ["3x3, 3 → 8 at 16x24", "3x3, 8 → 16 at 8x12"]


def test_a_kernel_without_a_name_of_the_file_counts_for_what_ran_before_it(engine: Path) -> None:
    graph = FloatGraph(onnx.load(engine))
    stem, down = (next(entry.node for entry in graph.layers if entry.name == name) for name in NAMES[:2])
    found = timed(engine, [(["ReorderInput"], 4.0), ([f"{stem}_nchwc"], 1.0), (["ReorderOutput"], 0.5), ([down], 2.0)])
    assert [(entry.name, entry.ms) for entry in found[:4]] == [
        (BEFORE, 4.0), ("stem.0", 1.5), ("down.0", 2.0), ("gate.1", 0.0)]


def test_a_file_of_another_format_has_the_same_layers(engine: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    needed("litert")
    other = Side(*open_artifact(lite.artifact(tmp_path, monkeypatch)), "litert")
    found, _ = measured(Side(*open_artifact(engine), "onnx"), other, rounds=1, runs=4)
    assert [entry.name for entry in other.turns[0]] == [BEFORE, *NAMES[:3], ""]  # the last one is the graph's result
    assert {pair.name for pair in found} == {BEFORE, *NAMES}
    assert all(pair.ms[0] > 0 for pair in found)
    assert sum(pair.ms[1] for pair in found) > 0  # the profiler counts whole microseconds


def test_the_kth_layer_of_a_kind_and_a_map_is_the_kth_of_the_other_file(engine: Path) -> None:
    one = side(engine, "onnx", layer("a.0", 1), layer("b", 2, "1x1"), layer("a.1", 3))
    other = side(engine, "x", layer("y", 9, "1x1"), layer("long.name.0", 5), layer("z", 7, channels=16))
    assert [(pair.name, pair.ms) for pair in pairs(one, other)] == [
        ("long.name.0", (1, 5)), ("b", (2, 9)), ("a.1", (3, 7))]


def test_a_layer_that_has_moved_to_fewer_cells_is_found_by_its_name(engine: Path) -> None:
    one = side(engine, "onnx", layer("a", 1), layer("head", 2, cells=(4, 6)))
    other = side(engine, "x", layer("a", 1), layer("head", 4))
    assert [(pair.name, pair.ms) for pair in pairs(one, other)] == [("a", (1, 1)), ("head", (2, 4))]


def test_no_layer_is_named_where_the_frames_take_equally_long(engine: Path) -> None:
    one, other = (side(engine, name, layer("a", ms)) for name, ms in (("onnx", 1), ("openvino", 2)))
    assert sentence(one, other, pairs(one, other)).endswith(
        "1.00 [1.00, 1.00] times as long: equally long, as far as this run can tell")


def test_a_layer_that_one_file_lacks_stands_alone_so_that_nothing_is_lost(engine: Path) -> None:
    one = side(engine, "onnx", layer("a", 1), layer("b", 2))
    other = side(engine, "x", layer("a", 1), layer("c", 4, "5x5"))
    assert [(pair.name, pair.ms) for pair in pairs(one, other)] == [("a", (1, 1)), ("b", (2, 0)), ("c", (0, 4))]


def test_the_sentence_names_the_kinds_that_make_up_most_of_the_difference(engine: Path) -> None:
    one = side(engine, "onnx", layer("a", 3, "3x3 depthwise"), layer("b", 4, "3x3 depthwise"), layer("c", 2, "1x1"),
               frame_ms=10.0)
    other = side(engine, "openvino", layer("a", 1, "3x3 depthwise"), layer("b", 1, "3x3 depthwise"),
                 layer("c", 1.5, "1x1"), frame_ms=5.0)
    assert sentence(one, other, pairs(one, other)) == (
        "tiny: onnx 10.0 ms, openvino 5.0 ms a frame, 2.00 [2.00, 2.00] times as long; 91 % of the difference in "
        "2 x 3x3 depthwise, 12 → 12 at 8x12 (7.00 against 2.00 ms)")
    assert sentence(other, one, pairs(other, one)).endswith("(2.00 against 7.00 ms)")


def test_the_table_lists_what_differs_most_and_sums_up_the_rest(engine: Path) -> None:
    one = side(engine, "onnx", layer("a", 3), layer("b", 2), layer("c", 1))
    other = side(engine, "openvino", layer("a", 1), layer("b", 1), layer("c", 1))
    lines = table(pairs(one, other), ("onnx", "openvino"), 1).splitlines()
    assert lines[1].split()[0] == "a"
    assert lines[1].endswith("+2.000 [+2.000, +2.000]")
    assert lines[2].split() == ["2", "others", "3.000", "2.000", "+1.000"]


def test_two_files_in_one_engine_are_told_apart_by_their_names(engine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    shutil.copyfile(engine, copy)
    artifact, _ = open_artifact(engine)
    write_artifact(replace(artifact, file=copy.name), copy)
    assert json_path(copy).is_file()
    assert layers.labels(*sides([str(engine), str(copy)], ["onnx"], tmp_path)) == (engine.name, "copy.onnx")


def test_what_makes_no_two_sides_is_refused(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="makes 1 pairs of a file and an engine"):
        sides([str(engine)], ["onnx"], tmp_path)


def test_an_engine_that_tells_no_times_is_refused_by_its_name(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(engine), "--engines", "onnx,ncnn"]) == 2
    assert "ncnn does not say what each of its kernels takes; expected some of litert, onnx" in capsys.readouterr().err


def test_the_command_says_what_it_has_found(engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed("openvino")
    assert main([str(engine), "--engines", "onnx,openvino", "--rounds", "2", "--layers", "2",
                 "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny, ")
    assert lines[1].split()[:4] == ["layer", "what", "onnx", "ms"]
    assert lines[4].split()[:2] == ["3", "others"]
    assert lines[-1].startswith("tiny: onnx ")
