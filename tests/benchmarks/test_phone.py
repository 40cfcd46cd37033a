"""Rows from a phone: measured in a browser by the same rules, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks import measurement, phone
from benchmarks.accuracy import evaluate
from benchmarks.page.candidates import joined
from benchmarks.rounds import Rule
from benchmarks.submission import Refused, read
from calibration.data.frames import drawn_frame
from calibration.data.labels import find_pairs, label_map
from export.web import engine
from export.web.serve import Site
from runtime import Segmenter
from runtime.artifact import open_artifact
from runtime.errors import UserError
from tests import chromium, colours
from tests.benchmarks import rows

RULE = Rule(4, 0.01, 2, quick=True)


@pytest.fixture
def run(tmp_path: Path) -> phone.PhoneRun:
    """A run over one network and two labelled frames."""
    path = colours.artifact(tmp_path / "made", (32, 48))
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(2):
        frame = drawn_frame((64, 96), number)
        cv2.imwrite(str(tmp_path / "data" / "images" / f"{number}.png"), frame)
        cv2.imwrite(str(tmp_path / "data" / "labels" / f"{number}.png"), frame.argmax(2).astype(np.uint8))
    return phone.PhoneRun([open_artifact(path)], RULE, 0, find_pairs(tmp_path / "data"), tmp_path / "rows.jsonl")


def result(run: phone.PhoneRun, **changes: Any) -> bytes:
    """What phone.js sends."""
    times = [[10.0, 12.0], [11.0, 13.0]]
    return json.dumps({
        "token": run.token, "network": 0, "engine": "web-wasm", "why": "4 threads", "threads": 4, "painter": "webgl2",
        "agreement": 1, "gate": 0.999, "load_ms": 200.5, "first_ms": 40, "warmed": {"queries": 16, "settled": True},
        "rounds": times, "stages": dict.fromkeys(("preprocess", "inference", "mask"), times), "thermal": [],
        "device": {"browser": "Chrome 156", "system": "Android 16", "cpu": "Pixel 10", "cores": 8, "memory_gb": 8,
                   "power": "battery"}, "complaints": [], **changes}).encode()


def send_masks(run: phone.PhoneRun, shape: tuple[int, int] = (64, 96)) -> None:
    for number in range(2):
        query = {"token": run.token, "network": "0", "engine": "web-wasm", "frame": str(number),
                 "height": str(shape[0]), "width": str(shape[1])}
        assert run.take_mask(query, np.zeros(shape, np.uint8).tobytes()) == (200, "{}")


def test_a_result_and_its_masks_become_a_latency_and_an_accuracy_row(run):
    send_masks(run)
    assert run.take_result({}, result(run)) == (200, "{}")
    latency, accuracy = measurement.read(run.rows)
    assert (latency.engine, latency.values["p50_ms"], latency.samples, latency.invalid) == ("web-wasm", 11.5, 4, ())
    assert latency.machine["cpu"] == "Pixel 10"
    blue = np.mean([cv2.imread(str(pair.label), cv2.IMREAD_GRAYSCALE) == 0 for pair in run.pairs])
    assert accuracy.values["pixel_accuracy"] == pytest.approx(blue)


def test_a_phone_is_a_machine_of_its_own_in_the_report(run):
    send_masks(run)
    run.take_result({}, result(run))
    run.take_result({}, result(run, device={"browser": "Safari 26", "system": "iOS", "cpu": "iPhone", "cores": 6,
                                            "memory_gb": 0, "power": "battery"}))
    found = joined([*rows.three(), *measurement.read(run.rows)])
    phones = [candidate for candidate in found if candidate.latency.engine == "web-wasm"]
    assert sorted(candidate.machine for candidate in phones) == ["Pixel 10, Chrome 156", "iPhone, Safari 26"]
    assert all(candidate.label.endswith(f" on {candidate.machine}") for candidate in phones)
    assert all(candidate.others["accuracy"].machine == candidate.latency.machine for candidate in phones)


@pytest.mark.parametrize(("changes", "complaint"), [
    ({"token": "another"}, "token"), ({"network": 1}, "below 1"), ({"network": True}, "whole number"),
    ({"engine": "onnx"}, "web-wasm"), ({"rounds": [[1.0]]}, "rounds"), ({"rounds": [[1.0], []]}, "rounds"),
    ({"rounds": [[1.0, -2.0], [1.0, 1.0]]}, "number from 0"), ({"rounds": [["1", 1], [1, 1]]}, "number from 0"),
    ({"rounds": [[1.0, float("nan")], [1.0, 1.0]]}, "number from 0"), ({"agreement": 1.5}, "number from 0 to 1"),
    ({"why": "x" * 201}, "printable"), ({"why": "a\nb"}, "printable"), ({"complaints": ["a"] * 11}, "at most 10"),
    ({"device": {}}, "not a result"), ({"stages": {}}, "not a result"), ({"rounds": [[1.0], [1.0]]}, "stage"),
])
def test_what_does_not_fit_is_refused_whole(run, changes, complaint):
    send_masks(run)
    status, said = run.take_result({}, result(run, **changes))
    assert (status, complaint in said) == (400, True), said
    assert not run.rows.exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{", b'"text"'])
def test_what_is_no_result_at_all_is_refused(run, body):
    with pytest.raises(Refused):
        read(body, run.token, 1, 2)


@pytest.mark.parametrize("changes", [{"token": "x"}, {"network": "1"}, {"frame": "2"}, {"frame": "-1"},
                                     {"height": "63"}, {"engine": "../x"}, {"width": "0"}, {"height": "x"}])
def test_a_mask_that_does_not_fit_is_refused(run, changes):
    query = {"token": run.token, "network": "0", "engine": "web-wasm", "frame": "0", "height": "64", "width": "96"}
    assert run.take_mask(query | changes, bytes(64 * 96))[0] == 400
    assert run.take_mask(query, bytes([3]) * (64 * 96))[0] == 400  # a class that the network has not
    assert run.take_mask(query, bytes(64 * 96))[0] == 200


def test_masks_that_are_missing_or_of_another_size_make_no_row(run):
    assert "0 masks" in run.take_result({}, result(run))[1]
    send_masks(run, (32, 48))
    assert "its label" in run.take_result({}, result(run))[1]
    assert not run.rows.exists()


@pytest.mark.parametrize(("changes", "reason"), [
    ({"warmed": {"queries": 160, "settled": False}}, "did not settle"), ({"agreement": 0.9}, "90.00 % of the proof"),
    ({"complaints": ["the page was hidden while it measured"]}, "hidden")])
def test_figures_that_cannot_be_trusted_are_marked(run, changes, reason):
    send_masks(run)
    run.take_result({}, result(run, **changes))
    (invalid,) = measurement.read(run.rows)[0].invalid
    assert reason in invalid


def test_heat_is_kept_as_a_curve_and_as_the_last_minute(run):
    send_masks(run)
    run.take_result({}, result(run, thermal=[[5, 10.0], [40, 20.0], [95, 30.0], [100, 40.0]]))
    latency = measurement.read(run.rows)[0]
    assert (latency.values["first_fps"], latency.values["sustained_fps"]) == (100.0, pytest.approx(1000 / 30))
    assert latency.details["sustained"] == {"at_s": [5, 40, 95, 100], "fps": [100, 50, pytest.approx(1000 / 30), 25],
                                            "temperature_c": [None] * 4, "clock_mhz": [None] * 4}


@pytest.mark.slow
def test_a_browser_measures_and_its_rows_arrive(run, tmp_path):
    try:
        engine._package()
    except UserError as error:
        pytest.skip(str(error))
    (tmp_path / "site").mkdir()
    posts = {"result": run.take_result, "mask": run.take_mask, "done": run.take_end}
    site = Site(phone.site_files(run, tmp_path / "site"), posts=posts, largest_post=phone.LARGEST_POST)
    try:
        with chromium.opened(tmp_path / "profile") as browser:
            browser.get(f"{site.url}#{run.token}")
            chromium.wait(browser, "return !document.getElementById('start').disabled")
            browser.execute_script("document.getElementById('start').click()")
            chromium.wait(browser, "return phone.done || phone.error")
            assert browser.execute_script("return phone.error") == ""
    finally:
        site.close()
    assert run.done.is_set()
    latency, accuracy = measurement.read(run.rows)
    assert (latency.engine, latency.samples >= 4, latency.values["agreement"]) == ("web-wasm", True, 1)
    assert "Chrom" in latency.machine["browser"]
    (artifact, path), = run.artifacts
    with Segmenter.open(path) as segmenter:
        here = evaluate(segmenter, run.pairs, label_map("own", artifact.classes))
    assert accuracy.values["pixel_accuracy"] == here.pixel_accuracy
    assert accuracy.values["boundary_iou"] == pytest.approx(np.nanmean(here.boundary_iou))
