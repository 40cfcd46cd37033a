"""What one command says of all engines: which are asked, what the table holds, what is refused, and the sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from benchmarks import engines
from benchmarks.engines import Offer, candidates, main, measured, offer, summary, timed
from benchmarks.measurement import append
from benchmarks.page.candidates import joined
from benchmarks.page.turns import lost, ratio, refusals, table
from benchmarks.page.verdict import verdict
from benchmarks.plan import Sweep, SweepItem, forms
from export.target import targets
from runtime import sessions
from runtime.artifact import open_artifact
from runtime.errors import UserError
from tests.benchmarks import rows

BUSY = ("the machine was busy: others took 40 % of the processor (allowed: 5 %)",)
LOST = {"agreement": 0.984, "drop_points": 0.3, "drop_low_points": 0.1, "drop_high_points": 0.5}
HERE = Offer({"onnx": ("onnx", "openvino")}, {"openvino-bf16": "no bfloat16", "coreml": "needs macOS"})


def two() -> list[object]:
    """One network in FP32 and, twice as fast and a little worse, in INT8."""
    found = []
    for precision, engine, p50, miou in (("fp32", "onnx", 20.0, 0.650), ("int8", "openvino", 10.0, 0.647)):
        right = rows.accuracy("net", precision, miou, engine=engine)
        found += [rows.latency("net", precision, p50, engine=engine), replace(right, values={**right.values, **LOST})]
    return found


@pytest.fixture
def plan(tmp_path: Path) -> Sweep:
    """A sweep whose rows are there."""
    found = Sweep(tmp_path, None, tmp_path, (None,), HERE.engines, False, None, unable=HERE.unable, together=True)
    refused = replace(rows.skipped("net", "no bfloat16"), engine="openvino-bf16")
    append(found.rows, [*two(), refused, replace(refused, precision="int8")])
    return found


def test_every_engine_is_asked_and_either_takes_part_or_says_why_not() -> None:
    found = offer(elsewhere=False)
    able = {name for names in found.engines.values() for name in names}
    assert able | set(found.unable) == set(sessions.engines())
    assert not able & set(found.unable)
    assert all(found.unable.values())
    assert all(found.engines.values())  # nothing is exported that nothing here runs
    assert found.engines["onnx"][0] == "onnx"


def test_on_a_board_every_engine_is_tried_as_only_the_board_knows_what_it_lacks() -> None:
    found = offer(elsewhere=True)
    assert found.unable == {}
    assert set(found.engines) == {name for name in targets() if sessions.readers(name)}


def test_every_precision_that_a_target_offers_is_a_candidate() -> None:
    found = candidates("net", (8, 8), None, HERE)
    assert found == [SweepItem("net", (8, 8), "onnx", precision, None, form)
                     for precision in targets()["onnx"].precisions for form in forms(precision, HERE.engines["onnx"])]


def test_engines_whose_files_were_not_made_are_told_apart_from_those_that_refuse_a_file() -> None:
    assert HERE.elsewhere == ["not here: Core ML: needs macOS"]


def test_rows_of_these_artifacts_in_these_engines_alone_are_told(engine: Path, plan: Sweep) -> None:
    own = replace(rows.latency("net", p50=15), sha256=open_artifact(engine)[0].sha256)
    append(plan.rows, [own, replace(own, engine="openvino"), replace(own, machine={"cpu": "x", "board": "pi"})])
    assert [c.latency for c in timed(plan, [(engine, "onnx")])] == [own]


def test_the_table_says_what_each_costs_and_keeps_and_the_sentence_what_to_ship(plan: Sweep) -> None:
    found = joined(two())
    text = summary(plan, found, ["refused: fp32 openvino-bf16: no bfloat16"], None, 1.0).splitlines()
    assert text[0] == "net 360x480 on abacus, 2 cores"
    assert text[1].split("  ")[0] == ""
    fast, slow = (line.split("  ") for line in text[2:4])
    assert [cell.strip() for cell in fast if cell] == [
        "int8 openvino", "10.00 [9.80, 10.30]", "12.00", "1", "64.70 [62.7, 66.7]", "+0.30 [+0.10, +0.50]", "98.40 %",
        "12.9", "180", "500"]
    assert "2.00 [2.00, 2.00]" in slow
    assert "refused: fp32 openvino-bf16: no bfloat16" in text
    assert text[-1].startswith("Ship net 360x480 int8 openvino. It is the fastest that fits at most 1 points of mIoU")
    picture = cv2.imread(str(plan.out / "net-360x480.png"))
    assert picture is not None
    assert picture.std() > 10


def test_a_budget_and_a_drop_decide_and_a_drop_of_nothing_takes_the_float_file(plan: Sweep) -> None:
    assert summary(plan, joined(two()), [], None, 0.1).splitlines()[-1].startswith("Ship net 360x480 fp32 onnx.")
    last = summary(plan, joined(two()), [], 5.0, 1.0).splitlines()[-1]
    assert last.startswith("No artifact fits p90 at most 5 ms and at most 1 points of mIoU below the best.")


def test_what_this_run_refused_is_told_and_where_nothing_is_left_it_is_the_error(
        plan: Sweep, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(sweep: Sweep, wanted: list[SweepItem], say: object, make: object) -> list[tuple[Path, str]]:
        append(sweep.rows, [rows.skipped("net", "GridSample is unknown")])
        return [(engine, "onnx")]

    monkeypatch.setattr("benchmarks.sweep.run", run)
    wanted = [SweepItem("net", (360, 480), "onnx", "fp32", None)]
    with pytest.raises(UserError, match=r"no engine ran net; expected one at least\nrefused: fp32 onnx: GridSample"):
        measured(plan, wanted)
    append(plan.rows, [replace(rows.latency("net"), sha256=open_artifact(engine)[0].sha256)])
    found, refused = measured(plan, wanted)
    assert [c.label for c in found] == ["net 360x480 fp32 onnx"]
    assert refused == ["refused: fp32 onnx: GridSample is unknown"]  # and not what an earlier run had refused


def test_on_a_busy_machine_nothing_is_named_and_the_indication_says_that_it_is_one() -> None:
    busy = joined([replace(entry, invalid=BUSY) if entry.kind == "latency" else entry for entry in two()])
    decision = verdict(busy, None, 1.0)
    assert decision.chosen is None
    assert decision.reasons[1] == "As they stand, net 360x480 int8 openvino would be it: an indication, no result."
    assert "INVALID: the machine was busy" in table(busy, lambda c: busy[0], "fastest")


def test_times_of_one_run_are_compared_round_by_round() -> None:
    a, b = joined(two())
    drifting = [5.0, 50.0] * 10
    a, b = (replace(c, latency=replace(c.latency, details={**c.latency.details, "rounds_ms": times}))
            for c, times in ((a, drifting), (b, [2 * ms for ms in drifting])))
    assert ratio(b, a) == (2.0, 2.0, 2.0)  # whatever the machine did meanwhile
    other = replace(b, latency=replace(b.latency, details={**b.latency.details, "run": "another"}))
    assert ratio(other, a)[1] < 2.0 < ratio(other, a)[2]


def test_less_than_nothing_lost_that_rounds_to_nothing_has_no_minus() -> None:
    right = replace(rows.accuracy("net"), values={**rows.accuracy("net").values, **LOST, "drop_points": -0.0003})
    assert lost(joined([rows.latency("net"), right])[0]) == "+0.00"


def test_one_reason_is_told_once() -> None:
    entries = [replace(rows.skipped("net", why), precision=precision, engine="onnx")
               for precision, why in (("fp32", "a"), ("fp16", "b"), ("int8", "a"))]
    assert refusals(entries) == ["refused: fp32 onnx, int8 onnx: a", "refused: fp16 onnx: b"]


@pytest.mark.parametrize(("words", "message"), [
    (["nett", "--data", "DATA"], "nett"), (["lraspp-small", "--data", "DATA", "--size", "33x33"], "--size 32x32"),
    (["lraspp-small", "--data", "nowhere"], "nowhere"),
    (["lraspp-small", "--data", "DATA", "--python", "x"], "--on")])
def test_mistakes_are_found_before_work(words: list[str], message: str, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
        rows_of = tmp_path / "data" / part / "0.png"
        cv2.imwrite(str(rows_of), cv2.UMat(8, 8, cv2.CV_8UC1).get())
    monkeypatch.setattr(engines, "offer", lambda elsewhere: HERE)
    words = [str(tmp_path / "data") if word == "DATA" else word for word in words]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
