"""A page on this machine that shows the overlay live: MJPEG, frame rate and legend, in any browser.

One JPEG is made per shown frame however many watch, and none while nobody does. A slow browser misses frames; it
never holds up the stream.
"""

from __future__ import annotations

import html
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

import cv2

from runtime.errors import UserError
from runtime.loopback import is_loopback, may_ask
from runtime.result import StreamResult
from runtime.timing import Rate

_BOUNDARY = "edgeseg-frame"
_QUALITY = 80
_FRESH_S = 10.0
_WAIT_S = 1.0
"""How often a waiting connection looks whether the server has ended."""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>edgeseg: {name}</title>
<style>body {{ margin: 0; background: #181818; color: #eee; font: 15px sans-serif }} main {{ padding: 12px }}
img {{ max-width: 100%; display: block }} li {{ display: inline-block; margin: 0 14px 6px 0 }} ul {{ padding: 0 }}
i {{ display: inline-block; width: 12px; height: 12px; margin-right: 5px; border: 1px solid #ccc }}</style>
<main><img id="video" src="/stream.mjpg" alt="the overlay, live"><p id="numbers">waiting for the first frame</p>
<ul id="legend">{legend}</ul></main><script>
async function tick() {{
  try {{
    const s = await (await fetch("/stats.json")).json();
    document.getElementById("numbers").textContent = s.frames ? `${{s.fps.toFixed(1)}} FPS, inference ` +
      `${{s.inference_ms.toFixed(0)}} ms, shown ${{s.age_ms.toFixed(0)}} ms after capture, ${{s.dropped}} dropped` :
      "waiting for the first frame";
  }} catch {{ document.getElementById("numbers").textContent = "the stream has ended"; return; }}
  setTimeout(tick, 500);
}}
tick();</script></html>"""


class Server:
    """A sink that shows results on `http://host:port/`. Threads of its own; `close` ends them.

    Args:
        name: shown in the title.
        classes: names, index order.
        palette: one (R, G, B) per class.
        port: 0 takes any free one; see `url`.
        host: an address of this machine. Anything but a loopback address lets others on the network watch.

    Raises:
        UserError: the port is taken or not allowed.
    """

    def __init__(self, name: str, classes: Sequence[str], palette: Sequence[tuple[int, int, int]], port: int,
                 host: str = "127.0.0.1") -> None:
        legend = "\n".join(f'<li><i style="background: rgb({r}, {g}, {b})"></i>{html.escape(label)}</li>'
                         for label, (r, g, b) in zip(classes, palette))
        self.page = _PAGE.format(name=html.escape(name), legend=legend).encode()
        self.stats: dict[str, float] = {"frames": 0}
        self._newest = -math.inf
        self.closed = False
        self._rate = Rate()
        self._jpeg = b""
        self._number = 0
        self._watching = 0
        self._changed = threading.Condition()
        try:
            self._server = ThreadingHTTPServer((host, port), partial(_StreamHandler, self))
        except (OSError, OverflowError) as error:
            raise UserError(f"cannot serve on {host}:{port} ({error})", try_="--serve with another port, such as 8001",
                            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://{host}:{self.port}/"
        self.local = is_loopback(host)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="edgeseg serve",
                                        daemon=True)
        self._thread.start()

    def write(self, result: StreamResult) -> None:
        """Show one result to whoever watches."""
        assert result.overlay is not None
        self._rate.tick()
        self._newest = monotonic()
        self.stats = {"frames": self.stats["frames"] + 1, "fps": self._rate.fps, "age_ms": result.age_ms,
                      "inference_ms": result.stages_ms.get("inference", 0.0), "dropped": result.dropped}
        if not self._watching:
            return
        jpeg = cv2.imencode(".jpg", result.overlay, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].tobytes()
        with self._changed:
            self._jpeg, self._number = jpeg, self._number + 1
            self._changed.notify_all()

    @property
    def healthy(self) -> bool:
        """Whether frames go through: the newest one is younger than ten seconds."""
        return monotonic() - self._newest < _FRESH_S

    def next(self, seen: int) -> tuple[int, bytes]:
        """The newest JPEG whose number is above `seen`, as soon as there is one; b"" when the server has ended."""
        with self._changed:
            while not self.closed and self._number <= seen:
                self._changed.wait(_WAIT_S)
            return self._number, b"" if self.closed else self._jpeg

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While somebody watches, pictures are made."""
        with self._changed:
            self._watching += 1
        try:
            yield
        finally:
            with self._changed:
                self._watching -= 1

    def close(self) -> None:
        """End all connections and free the port. A second call does nothing."""
        with self._changed:
            if self.closed:
                return
            self.closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _StreamHandler(BaseHTTPRequestHandler):
    """The page, its numbers, and the pictures."""

    def __init__(self, owner: Server, *arguments: Any) -> None:
        self.owner = owner
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer for the page, its numbers and its pictures; nothing else is served, no file is read."""
        if not may_ask(self.headers.get("Host"), self.owner.local):
            self.send_error(403, "this page is for this machine")
        elif self.path == "/":
            self._send("text/html; charset=utf-8", self.owner.page)
        elif self.path == "/stats.json":
            self._send("application/json", json.dumps(self.owner.stats).encode())
        elif self.path == "/health":
            self._send("text/plain", b"frames go through\n" if self.owner.healthy else b"no frames\n",
                       200 if self.owner.healthy else 503)
        elif self.path == "/stream.mjpg":
            self._stream()
        else:
            self.send_error(404)

    def _send(self, kind: str, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with self.owner.watching(), suppress(BrokenPipeError, ConnectionResetError):  # the browser may be closed
            number, jpeg = self.owner.next(0)
            while jpeg:
                self.wfile.write(f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                                 .encode() + jpeg + b"\r\n")
                number, jpeg = self.owner.next(number)

    def log_message(self, *_: Any) -> None:
        """Log no requests."""
