"""Files on the network, for the phone in your hand: HTTPS, the headers that threads need, and nothing but these."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from runtime.errors import UserError
from runtime.loopback import is_loopback, may_ask

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",  # these two make the page cross-origin isolated: without it browsers
    "Cross-Origin-Embedder-Policy": "require-corp",  # give no shared memory, and so no threads
    "Content-Security-Policy": "default-src 'self' blob: data:; script-src 'self' blob: 'wasm-unsafe-eval'; "
                               "object-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
         ".json": "application/json", ".webmanifest": "application/manifest+json", ".png": "image/png",
         ".jpg": "image/jpeg", ".wasm": "application/wasm"}

Post = Callable[[Mapping[str, str], bytes], tuple[int, str]]
"""From a query's words and the body to what they are answered with: status and JSON."""


class Site:
    """Serves a fixed set of files. Threads of its own; `close` ends them.

    Args:
        files: path on the site, without the leading slash → file; "" is the page. Nothing else is ever read.
        host: an address of this machine. Anything but a loopback address is served over HTTPS, to the whole network.
        port: 0 takes any free one; see `url`.
        posts: path → what takes bodies sent there.
        largest_post: bytes that a body may have.

    Raises:
        UserError: the address cannot be served on.
        MissingLibrary: HTTPS is needed and trustme is not installed.
    """

    def __init__(self, files: Mapping[str, Path], host: str = "127.0.0.1", port: int = 0, *,
                 posts: Mapping[str, Post] | None = None, largest_post: int = 0) -> None:
        self.files, self.posts, self.largest_post = dict(files), dict(posts or {}), largest_post
        self.local = is_loopback(host)
        name = host if host not in ("0.0.0.0", "") else address_in_network()
        context = None if self.local else _certified(name)
        try:
            self._server = ThreadingHTTPServer((host, port), partial(_PageHandler, self))
        except (OSError, OverflowError) as error:
            raise UserError(f"cannot serve on {host}:{port} ({error})",
                            try_="--serve with another address or port, such as 127.0.0.1:8001") from error
        if context is not None:  # the handshake waits in each connection's own thread, not where connections arrive
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True,
                                                      do_handshake_on_connect=False)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"{'http' if self.local else 'https'}://{name}:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="edgeseg site",
                                        daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all connections and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _PageHandler(BaseHTTPRequestHandler):
    """Answers from the site's lists; a path that is not in them does not exist."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def __init__(self, site: Site, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """One of the site's files."""
        path, _, query = self.path.partition("?")
        file = self.site.files.get(path.removeprefix("/"))
        if not may_ask(self.headers.get("Host"), self.site.local):
            self._answer(403, "text/plain", b"this page is for this machine")
        elif file is None or not file.is_file():
            self._answer(404, "text/plain", b"not here")
        else:
            fixed = "sha256=" in query or "/engine-" in path
            self._answer(200, KINDS.get(file.suffix, "application/octet-stream"), file.read_bytes(),
                         "max-age=31536000, immutable" if fixed else "no-cache")

    def do_POST(self) -> None:
        """A body for one of the site's receivers, if it is small enough and comes from the site's own page."""
        path, _, query = self.path.partition("?")
        receiver = self.site.posts.get(path.removeprefix("/"))
        length = self.headers.get("Content-Length", "")
        self.close_connection = True
        if receiver is None or not may_ask(self.headers.get("Host"), self.site.local):
            self._answer(404, "text/plain", b"not here")
        elif not length.isdecimal() or int(length) > self.site.largest_post:
            self._answer(413, "text/plain", b"too large, or of no stated length")
        else:
            status, text = receiver(dict(parse_qsl(query)), self.rfile.read(int(length)))
            self._answer(status, "application/json", text.encode())

    def _answer(self, status: int, kind: str, body: bytes, cache: str = "no-store") -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": cache,
                            **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log no requests."""


def files_of(folder: Path, prefix: str = "") -> dict[str, Path]:
    """What `Site` serves of a folder as it is now; `prefix`, with a slash at its end, stands before every path."""
    found = {prefix + file.relative_to(folder).as_posix(): file
             for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()}
    return {**found, prefix: folder / "index.html"}


def address_in_network() -> str:
    """The address by which others in this network reach this machine; loopback where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation; a datagram socket sends nothing here
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def invitation(url: str) -> str:
    """What a person at the terminal needs: the address, as a picture for a phone's camera where it is not loopback.

    Raises:
        MissingLibrary: segno, which draws it, is not installed.
    """
    if url.startswith("http:"):
        return f"{url} (this machine only; --serve 0.0.0.0 for a phone in this network)"
    import io

    segno = _library("segno")
    drawing = io.StringIO()
    segno.make(url, error="m").terminal(drawing, compact=True, border=2)
    return (f"{drawing.getvalue()}{url}\nEverybody in this network can open it. The phone will say that the connection "
            "is not private: the certificate was made just now, by this machine, and nobody vouches for it. Choose "
            "'Advanced' and go on; the camera works then, but nothing is stored for offline use.")


def _certified(name: str) -> ssl.SSLContext:
    """A TLS context with a certificate for `name`; its key is on the disk only while it is loaded."""
    trustme = _library("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA(organization_name="edgeseg, this machine").issue_cert(name, "localhost").configure_cert(context)
    return context


def _library(name: str) -> Any:
    import importlib

    from runtime.errors import MissingLibrary

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingLibrary(name, "serving to a phone", "web") from error
