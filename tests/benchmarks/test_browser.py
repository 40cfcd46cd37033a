"""The report in a real browser: its numbers are there, its filters work, and the console has nothing to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measurement import append
from benchmarks.report import main
from tests.benchmarks import rows
from tests.benchmarks.test_page import heated
from tests.chromium import opened, wait


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("plotly", reason="plotly is not installed (extra 'report')")
    folder = tmp_path_factory.mktemp("browser")
    append(folder / "rows.jsonl", rows.three())
    with opened(folder / "profile", "--disable-gpu") as browser:
        assert main([str(folder / "rows.jsonl"), "--out", str(folder / "report.html"), "--max-ms", "33"]) == 0
        browser.get((folder / "report.html").as_uri())
        wait(browser, "return document.body.dataset.ready === 'true'")
        yield browser


def shown(browser: Any) -> list[str]:
    """Names of the points in the chart."""
    script = ("return document.getElementById('tradeoff-0').data.filter(t => !t.meta.front)"
              ".map(t => [t.name.split(' ')[0], t.x[0], t.y[0]])")
    return sorted(f"{name} {x:g} {y:g}" for name, x, y in browser.execute_script(script))


def front(browser: Any) -> list[float]:
    """Milliseconds along the Pareto front."""
    return list(browser.execute_script("return document.getElementById('tradeoff-0').data[0].x"))


def click(browser: Any, field: str, value: str) -> None:
    browser.execute_script("document.querySelector(`.chip[data-field='${arguments[0]}'][data-value='${arguments[1]}']`)"
                           ".click()", field, value)


def test_headline_and_numbers_are_those_of_the_rows(browser: Any) -> None:
    assert browser.find_element("id", "headline").text == "Ship fast 360x480 fp32 onnx."
    cells = [cell.text for cell in browser.find_elements("css selector", "#rows tbody tr:first-child td")]
    assert cells[:5] == ["60.00", "58.0 to 62.0", "10.00", "9.80 to 10.30", "12.00"]
    assert shown(browser) == ["accurate 30 65", "beaten 20 50", "fast 10 60"]
    assert front(browser) == [10, 30]


def test_filter_hides_points_and_rows_and_redraws_the_front(browser: Any) -> None:
    click(browser, "network", "fast")
    assert shown(browser) == ["accurate 30 65", "beaten 20 50"]
    assert front(browser) == [20, 30]  # with "fast" gone, nothing beats "beaten" any more
    assert browser.find_element("id", "shown").text == "2 of 3 artifacts shown"
    assert len([r for r in browser.find_elements("css selector", "#rows tbody tr") if r.is_displayed()]) == 2
    click(browser, "precision", "int8")
    assert shown(browser) == ["accurate 30 65"]
    click(browser, "network", "fast")
    click(browser, "precision", "int8")
    assert browser.find_element("id", "shown").text == "3 of 3 artifacts shown"


def test_chooser_shows_the_profile_of_another_artifact(browser: Any) -> None:
    browser.execute_script("const box = document.getElementById('profile'); box.value = '1';"
                           "box.dispatchEvent(new Event('change'))")
    words = [text.text for text in browser.find_elements("css selector", ".profile") if text.is_displayed()]
    assert words == ["beaten runs at 60 % of this processor's peak."]


def test_every_chart_is_drawn(browser: Any) -> None:
    for name in ("tradeoff-0", "stages", "roofline", "layers"):
        assert browser.find_elements("css selector", f"#{name} .main-svg"), name


def test_the_charts_of_two_machines_stand_side_by_side_and_heat_below(browser: Any, tmp_path: Path) -> None:
    append(tmp_path / "rows.jsonl", heated())
    assert main([str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "report.html")]) == 0
    page = browser.current_url
    browser.get((tmp_path / "report.html").as_uri())
    wait(browser, "return document.body.dataset.ready === 'true'")
    for name in ("tradeoff-0", "tradeoff-1", "sustained"):
        assert browser.find_elements("css selector", f"#{name} .main-svg"), name
    click(browser, "machine", "abacus")
    assert browser.execute_script("return document.getElementById('tradeoff-0').data.length") == 1  # the empty front
    assert browser.execute_script("return document.getElementById('tradeoff-1').data.length") == 2
    browser.get(page)
    wait(browser, "return document.body.dataset.ready === 'true'")


def test_page_fits_a_phone(browser: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True})
    wait(browser, "return window.innerWidth === 390")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_console_is_silent_and_nothing_was_fetched(browser: Any) -> None:
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith(("data:", "file:", "blob:"))] == []
