"""The page in a real browser: its masks are the runtime's, it sends nothing, works offline, and says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from calibration.data.frames import drawn_frame
from export.web import folder
from export.web.proof import reference
from export.web.serve import Site, files_of
from runtime import Segmenter
from runtime.artifact import OutputKind, open_artifact
from tests import colours
from tests.export.web.conftest import CAMERA, SOFTWARE_WEBGPU, Page, camera_of, page_of


def agreement(page: Page, artifact: Path, frame: np.ndarray | None) -> float:
    """Share of pixels with the class that the runtime gives them, on the very pixels that the page saw."""
    classes, seen = page.segment(frame)
    if frame is not None:
        np.testing.assert_array_equal(seen, frame)
    with reference(artifact, open_artifact(artifact)[0]) as segmenter:
        mask = segmenter(seen).mask
    assert len(np.unique(mask)) > 1
    return float((mask == classes).mean())


def model(folder: Path) -> Path:
    """The network in a page's folder."""
    return next(folder.glob("*.onnx"))


@pytest.fixture(scope="module")
def page(colour_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page with its default engine here, WASM with threads."""
    with page_of(tmp_path_factory.mktemp("browser") / "profile", files_of(colour_folder), "", *CAMERA) as page:
        yield page


def test_page_runs_and_proves_itself_and_says_on_what(page: Page) -> None:
    assert page.text("alert") == ""
    assert page.value("[edgeseg.engine, edgeseg.painter, edgeseg.agreement]") == ["wasm-threads", "plain", 1]
    assert "threads" in page.text("why")
    assert "WebGPU" in page.text("why")
    assert page.text("proof") == "✓ 100 % as expected"


@pytest.mark.parametrize("size", [(48, 96), (37, 61), (216, 384)])
def test_masks_are_those_of_the_runtime_at_every_size(page: Page, colour_folder: Path, size: tuple[int, int]) -> None:
    assert agreement(page, model(colour_folder), drawn_frame(size, 3)) == 1


def test_legend_says_the_share_of_each_class(page: Page) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[:, :20, 2] = frame[:, 20:, 0] = 200  # a quarter red, the rest blue
    classes, _ = page.segment(frame)
    shares = [page.text(f"share-{k}") for k in range(3)]
    assert shares == [f"{100 * np.mean(classes == k):.1f} %" for k in range(3)]
    assert shares[1] == "0.0 %"
    assert page.value("[...document.querySelectorAll('#legend span')].map(e => e.textContent)") == list(colours.CLASSES)


def test_camera_is_segmented_until_it_is_paused(page: Page) -> None:
    before = page.value("edgeseg.frames")
    page.click("camera")
    page.wait(f"edgeseg.frames > {before + 3} && edgeseg.fps > 0")
    page.click("pause")
    page.wait("document.getElementById('pause').getAttribute('aria-pressed') === 'true'")
    classes, seen = page.segment()
    assert classes.shape == seen.shape[:2]


def test_nothing_is_asked_of_another_origin_and_the_console_is_silent(page: Page) -> None:
    fetched = page.value("[location.origin, ...performance.getEntriesByType('resource').map(e => e.name)]")
    assert len(fetched) > 5
    assert [name for name in fetched if not name.startswith((fetched[0], "blob:"))] == []
    assert [entry["message"] for entry in page.browser.get_log("browser") if "No available adapters" not in
            entry["message"]] == []


def test_page_fits_the_smallest_phone_and_everything_has_a_name(page: Page) -> None:
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                 {"width": 320, "height": 640, "deviceScaleFactor": 2, "mobile": True})
    # Loaded as on a phone: a desktop's page with a scroll bar, made narrow alive, keeps an overflow that Chromium 150
    # forgets at its next layout.
    page.load(page.browser.current_url)
    assert page.value("innerWidth") == 320
    assert page.value("document.documentElement.scrollWidth") == 320
    small = page.value("[...document.querySelectorAll('#controls button')].filter(e => e.offsetHeight && "
                       "e.offsetHeight < 44).map(e => e.id)")
    assert small == []
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    tree = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree
             if node.get("role", {}).get("value") in ("button", "slider", "image", "progressbar")]
    assert ("button", "Camera") in named
    assert [role for role, name in named if not name] == []


@pytest.mark.slow
@pytest.mark.parametrize(("query", "flags", "engine", "painter"), [
    ("?engine=wasm&painter=plain", (), "wasm", "plain"),
    ("?engine=wasm&painter=webgl2", (), "wasm", "webgl2"),
    ("?engine=webgpu", SOFTWARE_WEBGPU, "webgpu", "plain"),
])
@pytest.mark.parametrize("output", [OutputKind.LOW, OutputKind.LOGITS])
def test_every_engine_and_painter_gives_the_same_masks(engine_is_here, load, tmp_path, query, flags, engine, painter,
                                                       output):
    made = folder.build(colours.artifact(tmp_path / "made", (48, 96), output), tmp_path / "web")
    page = load(made, query, *flags)
    assert page.text("alert") == ""
    assert page.value("[edgeseg.engine, edgeseg.painter, edgeseg.agreement]") == [engine, painter, 1]
    for size in ((48, 96), (90, 150)):
        assert agreement(page, model(made), drawn_frame(size, 1)) == 1
    assert {*page.browser.execute_async_script(ASKED_MEANWHILE)} <= {"0,0,255", "2,255,0"}


ASKED_MEANWHILE = """
const [done] = arguments, seen = new Set();
const plain = (r, b) => new ImageData(new Uint8ClampedArray(48 * 96 * 4).map((_, i) => [r, 0, b, 255][i % 4]), 96, 48);
(async () => {
  await edgeseg.segment(plain(255, 0));
  const frames = Promise.all([...Array(20).keys()].map((i) => edgeseg.segment(i % 2 ? plain(255, 0) : plain(0, 255))));
  for (let i = 0; i < 100; i += 1) {
    const { classes, rgba } = await edgeseg.mask();
    seen.add([classes[2400], rgba[9600], rgba[9602]].join());
  }
  await frames;
  done([...seen]);
})();
"""
"""Red and blue frames in turns, and masks asked for while the engine computes: class, red and blue of a pixel."""


@pytest.mark.slow
@pytest.mark.parametrize(("query", "flags"), [("?engine=wasm-threads", ()), ("?engine=wasm-threads&painter=webgl2", ()),
                                              ("?engine=webgpu", SOFTWARE_WEBGPU)])
def test_real_network_on_real_frames_from_a_camera(real_folder, load, data, tmp_path, query, flags):
    capture = cv2.VideoCapture(str(data / "video" / "dashcam.mp4"))
    frames = [cv2.resize(capture.read()[1], (480, 360), interpolation=cv2.INTER_AREA) for _ in range(30)]
    page = load(real_folder, query, *flags, *camera_of(tmp_path / "camera.y4m", frames))
    assert page.value("edgeseg.agreement") >= 0.999
    page.click("camera")
    page.wait("edgeseg.frames > 0")
    page.click("pause")
    page.wait("document.getElementById('pause').getAttribute('aria-pressed') === 'true'")
    assert agreement(page, model(real_folder), None) >= 0.999


@pytest.fixture(scope="session")
def real_folder(engine_is_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of lraspp-small with its bundled weights."""
    from export.build import build
    from export.request import request
    from export.target import Job

    root = tmp_path_factory.mktemp("real")
    return folder.build(build("onnx", Job(request("lraspp-small"), root)), root / "web")


@pytest.mark.slow
def test_int8_file_runs_as_it_is_and_agrees_with_its_simulation(engine_is_here, load, data, tmp_path):
    from export.build import build
    from export.request import request
    from export.target import Job

    images = data / "camvid" / "train" / "images"
    made = build("onnx", Job(request("lraspp-small", precision="int8"), tmp_path / "made", calibration=images))
    page = load(folder.build(made, tmp_path / "web"), "?engine=wasm-threads")
    assert model(tmp_path / "web").read_bytes() == made.read_bytes()
    frame = cv2.imread(str(sorted((data / "camvid" / "val" / "images").iterdir())[20]))
    assert agreement(page, made, frame) >= 0.99


class _Bare(SimpleHTTPRequestHandler):
    """Any server: it sends no header that threads would need."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def any_server(colour_folder: Path) -> Iterator[str]:
    """The folder as any static server serves it; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Bare, directory=str(colour_folder)))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_on_any_server_the_service_worker_brings_threads(any_server, load, colour_folder):
    page = load(colour_folder)
    page.load(any_server + "?offline=no")
    assert page.value("edgeseg.engine") == "wasm"
    assert "not cross-origin isolated" in page.text("why")
    page.load(any_server)
    page.wait("window.edgeseg && edgeseg.ready")
    assert page.value("[edgeseg.engine, crossOriginIsolated]") == ["wasm-threads", True]


@pytest.mark.slow
def test_page_works_offline_after_its_first_visit(load, colour_folder, tmp_path):
    page = load(colour_folder, "?offline=no")  # a browser that has seen nothing yet
    site = Site(files_of(colour_folder))
    page.load(site.url)
    page.wait("navigator.serviceWorker.controller !== null")
    page.browser.execute_async_script("navigator.serviceWorker.ready.then(() => arguments[0]())")
    site.close()
    page.load(site.url)
    assert page.value("[edgeseg.ready, edgeseg.agreement]") == [True, 1]


@pytest.mark.slow
def test_a_refused_camera_is_said_and_pictures_still_work(load, colour_folder):
    page = load(colour_folder, "", "--use-fake-device-for-media-stream", "--deny-permission-prompts")
    page.click("camera")
    page.wait("!document.getElementById('alert').hidden")
    assert "camera was refused" in page.text("alert")
    assert agreement(page, model(colour_folder), drawn_frame((50, 70), 0)) == 1


@pytest.mark.slow
def test_a_changed_network_is_refused_with_both_hashes(load, colour_folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(colour_folder, broken)
    file = model(broken)
    file.write_bytes(file.read_bytes() + b"\0")
    page = load(broken)
    assert "SHA-256" in page.text("alert")
    assert page.value("edgeseg.ready") is False


@pytest.mark.slow
def test_a_mask_below_the_gate_is_said_in_red(load, colour_folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(colour_folder, other)
    expected = cv2.imread(str(other / "expected.png"), cv2.IMREAD_GRAYSCALE)
    expected[: len(expected) // 50] ^= 1
    cv2.imwrite(str(other / "expected.png"), expected)
    page = load(other)
    assert 0.95 < page.value("edgeseg.agreement") < 0.999
    assert page.text("proof").startswith("✗ only ")
    assert page.value("document.getElementById('proof').classList.contains('failed')")
    assert "Do not believe" in page.text("check")


@pytest.mark.slow
def test_an_engine_that_is_not_there_is_refused_not_replaced(load, colour_folder):
    page = load(colour_folder, "?engine=webgpu")
    assert "WebGPU was asked for" in page.text("alert")
    page.load(page.value("location.origin") + "/?engine=tensorrt")
    assert "ngine tensorrt was asked for" in page.text("alert")


@pytest.mark.slow
def test_a_hidden_tab_rests_and_goes_on_when_it_is_seen_again(load, colour_folder):
    page = load(colour_folder, "", *CAMERA)
    page.click("camera")
    page.wait("edgeseg.frames > 2")
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    page.browser.switch_to.window(first)  # scripts go there; what is seen is the new tab
    page.browser.execute_script("Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
                                "document.dispatchEvent(new Event('visibilitychange'))")
    page.browser.execute_async_script("setTimeout(arguments[0], 500)")
    resting = page.value("edgeseg.frames")
    page.browser.execute_async_script("setTimeout(arguments[0], 1000)")
    assert page.value("edgeseg.frames") == resting
    page.browser.execute_script("delete document.hidden")
    page.browser.switch_to.window(page.browser.window_handles[-1])
    page.browser.close()
    page.browser.switch_to.window(first)
    page.wait(f"edgeseg.frames > {resting + 2}")


@pytest.mark.slow
def test_a_frame_of_another_shape_as_a_turned_phone_gives_it_changes_mask_and_canvas(load, colour_folder):
    for painter in ("plain", "webgl2"):
        page = load(colour_folder, f"?painter={painter}")
        for size in ((90, 160), (160, 90)):
            assert agreement(page, model(colour_folder), drawn_frame(size, 2)) == 1
            assert page.value("document.getElementById('canvas').width > document.getElementById('canvas').height") is (
                size[1] > size[0])


def test_page_json_names_what_is_in_the_folder(colour_folder: Path) -> None:
    page = json.loads((colour_folder / "page.json").read_text(encoding="utf-8"))
    assert all((colour_folder / name.partition("?")[0]).exists() for name in page["offline"])
    with Segmenter.open(model(colour_folder)) as segmenter:
        frame = cv2.imread(str(colour_folder / page["proof"]["frame"]))
        expected = cv2.imread(str(colour_folder / page["proof"]["expected"]), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(segmenter(frame).mask, expected)
