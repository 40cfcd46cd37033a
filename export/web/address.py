"""Where to serve, as it is typed."""

from __future__ import annotations

import argparse

from runtime.loopback import is_loopback


def address(text: str) -> tuple[str, int]:
    """Parse "HOST:PORT", "HOST" or "PORT"; port 8443, or 8000 on loopback, where none is given."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = ("127.0.0.1", text) if text.isdecimal() else (text, "")
    if port and not (port.isdecimal() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; expected HOST:PORT, e.g. 0.0.0.0:8443")
    host = host.strip("[]") or "127.0.0.1"
    return host, int(port) if port else 8000 if is_loopback(host) else 8443
