"""The server for the phone: this folder and nothing else, loopback unless asked, HTTPS to the network."""

from __future__ import annotations

import argparse
import http.client
import inspect
import ssl
from pathlib import Path
from urllib.request import urlopen

import pytest

from export.web.address import address
from export.web.serve import Site, files_of, invitation
from runtime.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page of one line, with a folder in it, a link out of it, and something beside it."""
    (tmp_path / "web" / "engine-1").mkdir(parents=True)
    (tmp_path / "web" / "index.html").write_text("the page", encoding="utf-8")
    (tmp_path / "web" / "engine-1" / "a.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "web" / "link").symlink_to(tmp_path / "secret")
    return tmp_path / "web"


@pytest.fixture
def site(folder: Path):
    site = Site(files_of(folder), posts={"rows": lambda query, body: (200, query["a"] + body.decode())}, largest_post=5)
    yield site
    site.close()


def ask(site: Site, path: str, method: str = "GET", body: bytes | None = None,
        **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_page_comes_with_the_headers_that_threads_need(site):
    status, body, headers = ask(site, "/")
    assert (status, body) == (200, b"the page")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-cache"
    _, body, headers = ask(site, "/engine-1/a.wasm")
    assert (body, headers["Content-Type"]) == (b"\0asm", "application/wasm")
    assert "immutable" in headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/link", "/engine-1", "/engine-1/", "//etc/passwd",
                                  "/web/index.html", "/engine-1/../index.html"])
def test_nothing_but_the_folder_is_served(site, path):
    assert ask(site, path)[0] == 404


def test_a_page_of_another_name_cannot_look_on(site):
    assert ask(site, "/", Host="evil.example")[0] == 403
    assert ask(site, "/rows?a=1", "POST", b"2", Host="evil.example")[0] == 404


def test_bodies_go_to_their_receivers_and_large_ones_are_refused(site):
    assert ask(site, "/rows?a=1", "POST", b"23")[:2] == (200, b"123")
    assert ask(site, "/rows?a=1", "POST", b"123456")[0] == 413
    assert ask(site, "/other", "POST", b"1")[0] == 404


def test_loopback_is_the_default_and_a_taken_port_is_said(site, folder):
    assert inspect.signature(Site).parameters["host"].default == "127.0.0.1"
    assert site.url == f"http://127.0.0.1:{site.port}/"
    with pytest.raises(UserError, match=r"cannot serve .* Try: --serve"):
        Site(files_of(folder), port=site.port)


def test_the_network_gets_https_with_a_certificate_for_this_address(folder):
    pytest.importorskip("trustme", reason="trustme is not installed (extra 'web')")
    site = Site(files_of(folder), "0.0.0.0")
    try:
        assert site.url.startswith("https://")
        context = ssl.create_default_context()
        with pytest.raises(OSError, match=r"self-signed|self signed|unable to get local issuer"):
            urlopen(f"https://127.0.0.1:{site.port}/", context=context, timeout=10)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urlopen(f"https://127.0.0.1:{site.port}/", context=context, timeout=10) as answer:
            assert answer.read() == b"the page"
    finally:
        site.close()


def test_invitation_has_a_code_for_phones_and_a_plain_word_about_the_warning():
    pytest.importorskip("segno", reason="segno is not installed (extra 'web')")
    said = invitation("https://192.168.1.20:8443/")
    assert "https://192.168.1.20:8443/" in said
    assert "█" in said or "▄" in said
    assert "not private" in said
    assert "this machine only" in invitation("http://127.0.0.1:8000/")


@pytest.mark.parametrize(("text", "expected"), [
    ("8001", ("127.0.0.1", 8001)), ("0.0.0.0", ("0.0.0.0", 8443)), ("localhost", ("localhost", 8000)),
    ("192.168.1.20:9000", ("192.168.1.20", 9000)), ("[::1]:9000", ("::1", 9000)), (":9000", ("127.0.0.1", 9000))])
def test_addresses_as_they_are_typed(text, expected):
    assert address(text) == expected


@pytest.mark.parametrize("text", ["host:port", "host:70000", "1:-1"])
def test_an_address_that_is_none_is_said(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected HOST:PORT"):
        address(text)
