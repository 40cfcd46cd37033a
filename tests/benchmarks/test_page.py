"""What the report says: joined rows, verdicts, tables, comparisons; worked out by hand from `tests.benchmarks.rows`."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measurement import Measurement, append
from benchmarks.page import charts
from benchmarks.page.candidates import front, joined, skipped
from benchmarks.page.compare import compare
from benchmarks.page.text import comma_separated, markdown
from benchmarks.page.untimed import untimed
from benchmarks.page.verdict import verdict, verdicts
from benchmarks.report import main
from tests.benchmarks import rows

BUSY = ("the machine was busy: others took 40 % of the processor (allowed: 5 %)",)


def test_rows_of_the_same_artifact_are_joined_and_the_newest_counts() -> None:
    old, new = rows.latency(p50=10), rows.latency(p50=12, at="2026-11-22T00:00:00+00:00")
    candidate, = joined([new, old, rows.accuracy()])
    assert candidate.p50 == 12
    assert candidate.miou == 0.6


def test_thread_counts_of_one_artifact_are_candidates_of_their_own_and_share_its_accuracy() -> None:
    one, two = (replace(rows.latency(), details={**rows.latency().details, "threads": n}) for n in (1, 2))
    found = joined([one, two, rows.accuracy()])
    assert [c.label for c in found] == ["fast 360x480 fp32 onnx 1 thread", "fast 360x480 fp32 onnx 2 threads"]
    assert [c.miou for c in found] == [0.6, 0.6]


def test_two_engines_of_one_artifact_are_candidates_of_their_own_with_their_own_accuracy_and_shared_counts() -> None:
    counts = replace(rows.latency(), kind="complexity", engine="")
    found = joined([rows.latency(), rows.accuracy(), counts, rows.latency(p50=5, engine="openvino"),
                    rows.accuracy(miou=0.5, engine="openvino")])
    assert [(c.label, c.miou) for c in found] == [("fast 360x480 fp32 openvino", 0.5), ("fast 360x480 fp32 onnx", 0.6)]
    assert all("complexity" in c.others for c in found)


def test_what_is_left_of_the_speed_on_a_video_has_a_table_of_its_own(tmp_path: Path) -> None:
    video = replace(rows.latency(), kind="pipeline", values={
        "engine_only_fps": 25.0, "pipeline_fps": 24.0, "pipeline_over_engine_only": 0.96, "camera_dropped": 7.0})
    append(tmp_path / "rows.jsonl", [*rows.three(), video])
    assert main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "page.html")]) == 0
    table = re.search('<table id="videos">.*?</table>', (tmp_path / "page.html").read_text(encoding="utf-8"), re.DOTALL)
    assert table is not None
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", table[0].split("<tbody>")[1])
    assert cells == ["fast 360x480 fp32 onnx", "25.0", "24.0", "0.96", "–", "–", "–", "–", "7"]


def test_front_leaves_out_what_another_beats_in_both() -> None:
    assert [c.latency.name for c in front(joined(rows.three()))] == ["fast", "accurate"]


def test_skipped_is_told_until_a_later_run_measures_it() -> None:
    candidates = joined(rows.three())
    assert [entry.name for entry in skipped(rows.three(), candidates)] == ["absent"]
    done = [*rows.three(), rows.latency("absent")]
    assert skipped(done, joined(done)) == []


def test_without_a_drop_the_most_accurate_that_fits_the_budget_is_shipped() -> None:
    found = verdict(joined(rows.three()), max_ms=40, max_drop=None)
    assert found.headline == "Ship accurate 360x480 fp32 onnx."


def test_what_nothing_ran_is_never_chosen_and_the_verdict_says_which_budget_it_could_not_check() -> None:
    seen = replace(rows.accuracy("seen", "int8", 0.9), target="coreml", engine="reference", samples=7)
    unrun = untimed([rows.built("seen"), seen, rows.built("unseen"), *rows.three()])
    decision = verdict(joined(rows.three()), 33.0, 6.0, unrun)
    assert decision.chosen is not None
    assert decision.chosen.latency.name == "fast"
    seen, unseen = decision.reasons[-2:]
    assert seen == ("seen 360x480 int8 coreml is evaluated by the reference on 7 frames, not executed: p90 at most "
                    "33 ms could not be checked.")
    assert unseen == ("unseen 360x480 int8 coreml is built, not executed: p90 at most 33 ms and at most 6 points of "
                      "mIoU below the best could not be checked.")
    assert not any("could not be checked" in line for line in verdict(joined(rows.three()), None, None, unrun).reasons)


def test_a_time_that_nobody_took_is_a_dash_in_a_table_of_its_own_and_no_zero(tmp_path: Path) -> None:
    append(tmp_path / "rows.jsonl", [*rows.three(), rows.built("unseen")])
    assert main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "page.html")]) == 0
    table = re.search('<table id="untimed">.*?</table>', (tmp_path / "page.html").read_text("utf-8"), re.DOTALL)
    assert table is not None
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", table[0].split("<tbody>")[1])
    assert cells == ["unseen 360x480 int8 coreml", "–", "3.5", "built, not executed"]
    assert "| unseen 360x480 int8 coreml | – | 3.5 | built, not executed |" in (tmp_path / "page.md").read_text("utf-8")


def test_budget_counts_for_nine_frames_in_ten() -> None:
    found = verdict(joined(rows.three()), max_ms=33, max_drop=None)  # accurate: p50 is 30 ms, p90 is 36 ms
    assert found.headline == "Ship fast 360x480 fp32 onnx."
    assert "accurate 360x480 fp32 onnx: p90 is 36.0 ms" in found.reasons


def test_with_a_drop_the_fastest_within_it_is_shipped() -> None:
    assert verdict(joined(rows.three()), None, 5.5).headline == "Ship fast 360x480 fp32 onnx."
    assert verdict(joined(rows.three()), None, 1.0).headline == "Ship accurate 360x480 fp32 onnx."


def test_when_nothing_fits_it_says_so_and_why_not_each() -> None:
    found = verdict(joined(rows.three()), max_ms=33, max_drop=1.0)
    assert found.chosen is None
    assert found.headline == "No artifact fits p90 at most 33 ms and at most 1 points of mIoU below the best."
    assert len(found.reasons) == 3


def test_invalid_rows_take_no_part_and_are_named() -> None:
    found = verdict(joined([*rows.three(), rows.latency("fast", p50=10, invalid=BUSY, at="2027")]), None, 6)
    assert found.headline == "Ship accurate 360x480 fp32 onnx."
    assert any("fast 360x480 fp32 onnx takes no part: the machine was busy" in line for line in found.reasons)
    nobody = verdict(joined([rows.latency(invalid=BUSY), rows.accuracy()]), None, None)
    assert nobody.chosen is None
    assert "every row is invalid" in nobody.headline


def test_random_weights_make_a_candidate_invalid() -> None:
    candidate, = joined([rows.latency(), rows.accuracy(invalid=("the weights are random",))])
    assert candidate.invalid == ("the weights are random",)


def test_verdict_from_quick_rows_says_that_it_is_an_indication() -> None:
    found = verdict(joined([rows.latency(quick=True), rows.accuracy()]), None, None)
    assert "an indication, no result" in found.reasons[-1]


def test_markdown_and_csv_hold_the_same_rows() -> None:
    candidates = joined(rows.three())
    lines = markdown(candidates).splitlines()
    assert lines[2].startswith("| fast 360x480 fp32 onnx | 60.00 | 58.0 to 62.0 | 10.00 | 9.80 to 10.30 | 12.00 |")
    table = list(csv.DictReader(io.StringIO(comma_separated(candidates))))
    assert [entry["p50 ms"] for entry in table] == ["10.00", "20.00", "30.00"]
    assert table[0]["command"] == "python -m benchmarks latency fast.onnx"


CURVE = {"at_s": [5, 65, 120], "fps": [30, 25, 20], "temperature_c": [40, 60, 80], "clock_mhz": [None] * 3}


def heated() -> list[Measurement]:
    """Latency of a board that became warm, and of this machine, each with its accuracy."""
    own = rows.latency("fast", p50=33)
    board = replace(own, machine={"board": "pi@board", "cpu": "Cortex-A76"},
                    values={**own.values, "first_fps": 30.0, "sustained_fps": 22.5},
                    details={**own.details, "sustained": CURVE, "temperature_c": [40.5, 80.0]})
    return [*rows.three(), board, replace(rows.accuracy("fast"), machine=board.machine)]


def test_each_machine_has_a_verdict_and_a_chart_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(tmp_path / "rows.jsonl", heated())
    assert main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "r.html"), "--max-ms", "38"]) == 0
    said = capsys.readouterr().out
    assert said.index("abacus:") < said.index("Ship accurate 360x480 fp32 onnx on abacus.") < said.index("pi@board, ")
    assert "No artifact fits p90 at most 38 ms." in said.split("pi@board, Cortex-A76:")[1]
    html = (tmp_path / "r.html").read_text("utf-8")
    assert '<h1 id="headline">What to ship on each of 2 machines</h1>' in html
    assert re.findall(r'<h3>([^<]*)</h3><div id="tradeoff-(\d)"', html) == [
        ("abacus", "0"), ("pi@board, Cortex-A76", "1")]
    assert html.count('<span class="badge ship">') == 1


def test_what_nothing_ran_is_said_under_one_machine_only() -> None:
    found = verdicts(joined(heated()), 33, None, untimed([rows.built()]))
    assert [sum("could not be checked" in line for line in decision.reasons) for decision in found.values()] == [1, 0]


def test_what_heat_leaves_is_said_and_drawn_where_it_was_measured(tmp_path: Path) -> None:
    append(tmp_path / "rows.jsonl", heated())
    assert main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "r.html")]) == 0
    html = (tmp_path / "r.html").read_text("utf-8")
    assert "fast 360x480 fp32 onnx: 30.0 FPS at first, 22.5 after 2 minutes, 40 to 80 °C" in html
    assert "fast 360x480 fp32 onnx on pi@board, Cortex-A76: 40.5 to 80 °C" in html
    speed, warmth = charts.sustained(joined(heated()))["data"]
    assert (speed["y"], warmth["y"], warmth["yaxis"]) == ([30, 25, 20], [40, 60, 80], "y2")
    append(tmp_path / "cool.jsonl", rows.three())
    assert main([str(tmp_path / "cool.jsonl"), "--out", str(tmp_path / "r.html")]) == 0
    assert "What heat leaves" not in (tmp_path / "r.html").read_text("utf-8")


def test_figures_are_what_plotly_accepts() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects", reason="plotly is not installed (extra 'report')")
    candidates = joined(rows.three())
    profile = candidates[0].others["layers"]
    colours = charts.network_colours(candidates)
    for figure in (charts.tradeoff(candidates, 33, colours), charts.stages(candidates), charts.roofline(profile),
                   charts.layers(profile), charts.sustained(joined(heated()))):
        assert graph_objects.Figure(figure).data


def test_slower_beyond_the_interval_is_a_regression_and_noise_is_not() -> None:
    noisy = {**rows.latency().details, "rounds_ms": [9.5, 10.5] * 10}
    old = rows.latency(details=noisy)
    assert compare([old], [rows.latency(p50=10.2, details=noisy)]).regressions == ()
    found = compare([old], [rows.latency(p50=12)])
    assert found.regressions[0].startswith("fast 360x480 fp32 onnx, latency: p50 10.00 ms -> 12.00 ms, 1.2")


def test_less_accurate_than_the_old_interval_is_a_regression() -> None:
    assert compare([rows.accuracy(miou=0.6)], [rows.accuracy(miou=0.585)]).regressions == ()
    assert len(compare([rows.accuracy(miou=0.6)], [rows.accuracy(miou=0.579)]).regressions) == 1


def test_row_that_is_gone_is_a_regression() -> None:
    found, = compare([rows.latency()], []).regressions
    assert found == "fast 360x480 fp32 onnx, latency: measured before, not any more"


@pytest.mark.parametrize("change", [{"invalid": BUSY}, {"machine": {"cpu": "another"}}])
def test_what_cannot_be_compared_is_neither_good_nor_bad(change: dict[str, object]) -> None:
    found = compare([rows.latency()], [rows.latency(p50=50, **change)])
    assert (found.regressions, found.others) == ((), ())
    assert len(found.uncompared) == 1


def written(path: Path, entries: list[Measurement]) -> str:
    append(path, entries)
    return str(path)


def test_compare_exits_with_1_on_a_regression_with_0_without_and_with_2_when_nothing_compares(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", [rows.latency()])
    assert main(["--compare", old, old]) == 0
    assert main(["--compare", old, written(tmp_path / "slow.jsonl", [rows.latency(p50=20)])]) == 1
    assert "WORSE: fast 360x480 fp32 onnx, latency" in capsys.readouterr().err
    assert main(["--compare", old, written(tmp_path / "busy.jsonl", [rows.latency(invalid=BUSY)])]) == 2


def test_report_needs_rows_with_a_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path / "rows.jsonl", [rows.accuracy()]), "--out", str(tmp_path / "r.html")]) == 2
    assert main([]) == 2
    assert not (tmp_path / "r.html").exists()
    assert "no latency" in capsys.readouterr().err


def test_page_stands_alone_with_its_tables_in_plain_html(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra 'report')")
    entry = rows.skipped("absent", "an <odd> & reason")
    path = written(tmp_path / "rows.jsonl", [*rows.three(), entry])
    assert main([path, "--out", str(tmp_path / "r.html"), "--max-ms", "33"]) == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?!data:)""", html) == []
    assert "<h1 id=\"headline\">Ship fast 360x480 fp32 onnx.</h1>" in html
    assert "an &lt;odd&gt; &amp; reason" in html
    assert "{{" not in html.split("<script>")[0]
    assert (tmp_path / "r.md").exists()
    assert (tmp_path / "r.csv").exists()
    assert "Ship fast" in capsys.readouterr().out


def test_whatever_rows_say_is_text_on_the_page_and_no_markup(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra 'report')")
    odd = """</script><img src=x onerror="alert('1')">"""
    machine = {"cpu": odd, odd: [odd]}
    scores = {**rows.accuracy().details, "iou_by_class": {odd: 0.5}, "palette": {odd: [1, 2, 3]},
              "overlays": {odd: {"mask": "mask.jpg", "label": "gone.jpg"}}}
    (tmp_path / "mask.jpg").write_bytes(b"jpeg")
    own = [rows.latency(odd, p50=10.0, machine=machine, invalid=(odd,), command=odd),
           replace(rows.accuracy(odd), machine=machine, details=scores),
           replace(rows.layers(odd), machine=machine, details={**rows.layers().details, "words": [odd]}),
           rows.built(odd), rows.skipped(odd, odd)]
    path = written(tmp_path / "rows.jsonl", [*own, rows.latency("other"), rows.accuracy("other")])
    assert main([path, "--out", str(tmp_path / "r.html")]) == 0
    ours, *_ = (tmp_path / "r.html").read_text(encoding="utf-8").split("<script>")
    assert re.findall("<img[^>]*>", ours) == [
        '<img alt="{0}" title="{0}" src="data:image/jpeg;base64,anBlZw==">'.format(
            "&lt;/script&gt;&lt;img src=x onerror=&#34;alert(&#39;1&#39;)&#34;&gt;")]
    assert ours.count("</script>") == 1  # of the figures
    assert ours.count("&lt;img") > 20
