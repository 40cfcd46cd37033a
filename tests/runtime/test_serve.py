"""The page on this machine: pictures, numbers and legend, and nothing for anyone else."""

from __future__ import annotations

import http.client
import json
import shutil
import threading

import cv2
import numpy as np
import pytest

from runtime import serve
from runtime.errors import UserError
from runtime.result import StreamResult
from runtime.serve import Server
from tests.colours import CLASSES, PALETTE, described


def result(index: int = 0, colour: tuple[int, int, int] = (0, 0, 255)) -> StreamResult:
    picture = np.full((48, 64, 3), colour, np.uint8)
    return StreamResult(np.zeros((48, 64), np.uint8), {"inference": 12.3}, picture, described(), None, index, 0.0,
                        picture, 45.6, 7)


@pytest.fixture
def server():
    """A page without frames."""
    server = Server("<tiny>", CLASSES, PALETTE, 0)
    yield server
    server.close()


@pytest.fixture
def feeding(server):
    """Frames go on until the test ends, as a camera's do: whoever connects gets the next ones."""
    stop = threading.Event()

    def feed() -> None:
        index = 0
        while not stop.wait(0.02):
            server.write(result(index))
            index += 1

    thread = threading.Thread(target=feed)
    thread.start()
    yield server
    stop.set()
    thread.join()


def get(server: Server, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def test_the_page_names_every_class_and_escapes_what_it_shows(server):
    page = get(server, "/").read().decode()
    assert "&lt;tiny&gt;" in page
    for name, (r, g, b) in zip(CLASSES, PALETTE):
        assert f"rgb({r}, {g}, {b})" in page
        assert f"</i>{name}</li>" in page


def test_the_numbers_are_those_of_the_last_frame(server):
    assert json.loads(get(server, "/stats.json").read()) == {"frames": 0}
    server.write(result())
    server.write(result())
    stats = json.loads(get(server, "/stats.json").read())
    assert (stats["frames"], stats["age_ms"], stats["inference_ms"], stats["dropped"]) == (2, 45.6, 12.3, 7)


def test_the_stream_is_jpegs_one_after_the_other(feeding):
    response = get(feeding, "/stream.mjpg")
    assert response.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=edgeseg-frame"
    for _ in range(3):
        assert response.readline() == b"--edgeseg-frame\r\n"
        assert response.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(response.readline().split(b":")[1])
        assert response.readline() == b"\r\n"
        picture = cv2.imdecode(np.frombuffer(response.read(length), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (48, 64, 3)
        assert np.abs(picture[20, 20].astype(int) - (0, 0, 255)).max() < 10
        assert response.readline() == b"\r\n"
    response.close()


def test_nothing_is_encoded_while_nobody_looks_on(server, monkeypatch):
    monkeypatch.setattr(cv2, "imencode", lambda *_: pytest.fail("encoded for nobody"))
    server.write(result())


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:80", 200), ("localhost", 200), ("[::1]:8000", 200), ("evil.example", 403), ("evil.example:8000", 403)])
def test_a_page_of_another_name_that_resolves_here_may_not_look_on(server, host, status):
    assert get(server, "/", Host=host).status == status


def test_what_is_not_there_is_404(server):
    assert get(server, "/../etc/passwd").status == 404


def test_closing_ends_open_streams_and_frees_the_port(server):
    response = get(server, "/stream.mjpg")
    server.close()
    server.close()
    assert response.read() == b""
    Server("again", CLASSES, PALETTE, server.port).close()


@pytest.mark.parametrize("port", ["taken", 70000])
def test_a_port_that_cannot_be_had_is_refused(server, port):
    with pytest.raises(UserError, match="cannot serve"):
        Server("x", CLASSES, PALETTE, server.port if port == "taken" else port)


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium with a profile of its own."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
                 "disable-background-networking", "disable-component-update", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def test_a_browser_shows_pictures_frame_rate_and_legend(feeding, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(feeding.url)
    wait = WebDriverWait(browser, 30, poll_frequency=0.05)
    wait.until(lambda b: "FPS" in b.find_element("id", "numbers").text)
    assert "inference 12 ms, shown 46 ms after capture, 7 dropped" in browser.find_element("id", "numbers").text
    wait.until(lambda b: b.execute_script("return document.getElementById('video').naturalWidth") == 64)
    red = browser.execute_script("""
        const canvas = document.createElement('canvas'); canvas.width = 64; canvas.height = 48;
        const context = canvas.getContext('2d'); context.drawImage(document.getElementById('video'), 0, 0);
        return Array.from(context.getImageData(32, 24, 1, 1).data)""")
    assert red[0] > 240
    assert max(red[1:3]) < 20
    assert browser.find_element("id", "legend").text.split() == list(CLASSES)


def test_health_is_for_frames_that_go_through_now(server, monkeypatch):
    assert get(server, "/health").status == 503
    server.write(result())
    assert get(server, "/health").status == 200
    now = serve.monotonic()
    monkeypatch.setattr(serve, "monotonic", lambda: now + 11)
    assert get(server, "/health").status == 503
