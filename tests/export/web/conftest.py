"""What the page's tests share: the page in a browser, and pictures of known pixels sent through it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from export.web import engine, folder
from export.web.serve import Site, files_of
from runtime.errors import UserError
from runtime.preprocess import Frame
from tests import colours
from tests.chromium import opened, wait

SOFTWARE_WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

_SEGMENT = """
const [png, done] = arguments;
const text = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
(async () => {
  if (png) await edgeseg.segment(new Blob([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))], { type: "image/png" }));
  const { height, width, classes, rgba } = await edgeseg.mask();
  done({ height, width, classes: text(classes), rgba: text(rgba) });
})().catch((error) => done({ error: String(error) }));
"""


class Page:
    """The page in a browser."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def value(self, expression: str) -> Any:
        """What a JavaScript expression is."""
        return self.browser.execute_script(f"return {expression}")

    def wait(self, expression: str) -> None:
        """Until it is true."""
        wait(self.browser, f"return {expression}")

    def click(self, name: str) -> None:
        """Press a button by its id."""
        self.browser.execute_script("document.getElementById(arguments[0]).click()", name)

    def text(self, name: str) -> str:
        """The text of an element."""
        return str(self.browser.execute_script("return document.getElementById(arguments[0]).textContent", name))

    def load(self, url: str) -> Page:
        """Open an address and wait until the page works or says why it does not."""
        self.browser.get(url)
        self.wait("window.edgeseg && (edgeseg.ready || !document.getElementById('alert').hidden)")
        return self

    def segment(self, frame: Frame | None = None) -> tuple[np.ndarray, Frame]:
        """The mask that the page makes of a frame, and the frame as it saw it, BGR; None for its last frame."""
        png = None if frame is None else base64.b64encode(cv2.imencode(".png", frame)[1].tobytes()).decode()
        answer = self.browser.execute_async_script(_SEGMENT, png)
        assert "error" not in answer, answer
        size = answer["height"], answer["width"]
        classes, rgba = (np.frombuffer(base64.b64decode(answer[key]), np.uint8) for key in ("classes", "rgba"))
        return classes.reshape(size), np.ascontiguousarray(rgba.reshape(*size, 4)[..., 2::-1])


@contextmanager
def page_of(profile: Path, files: dict[str, Path], query: str = "", *flags: str) -> Iterator[Page]:
    """A page on a site of its own, in a browser of its own."""
    with opened(profile, *flags) as browser:
        site = Site(files)
        try:
            yield Page(browser).load(site.url + query)
        finally:
            site.close()


@pytest.fixture(scope="session")
def engine_is_here() -> None:
    """Skips where ONNX Runtime Web is neither in the cache nor to be had from npm."""
    try:
        engine._package()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def colour_folder(tmp_path_factory: pytest.TempPathFactory, engine_is_here: None) -> Path:
    """The page of a network that answers with the brightest channel."""
    root = tmp_path_factory.mktemp("colours")
    return folder.build(colours.artifact(root, (48, 96)), root / "web")


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens pages that are closed when the test ends: `load(folder, query, *flags)`."""
    with ExitStack() as stack:
        def load(folder: Path, query: str = "", *flags: str) -> Page:
            profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
            return stack.enter_context(page_of(profile, files_of(folder), query, *flags))

        yield load


def camera_of(path: Path, frames: list[Frame]) -> tuple[str, ...]:
    """Flags for a camera that shows these frames, again and again."""
    height, width = frames[0].shape[:2]
    with path.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            stream.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes())
    return (*CAMERA, f"--use-file-for-fake-video-capture={path}")
