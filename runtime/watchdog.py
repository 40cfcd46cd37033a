"""Notifications to systemd, where it started us: ready, alive, stopping (sd_notify(3)'s protocol, over its socket)."""

from __future__ import annotations

import os
import socket
from time import monotonic

from runtime.result import StreamResult
from runtime.timing import Rate

_EVERY_S = 1.0


class Watchdog:
    """A sink that reports finished frames to systemd; where the stream hangs, no report follows.

    Args:
        address: of systemd's socket, as it is in NOTIFY_SOCKET; "@" stands for the null byte of an abstract one.
    """

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._rate = Rate()
        self._last_sent = -_EVERY_S
        self._say = "READY=1\nWATCHDOG=1"

    def write(self, result: StreamResult) -> None:
        """A frame has arrived; says so once a second."""
        self._rate.tick()
        if monotonic() - self._last_sent >= _EVERY_S:
            self._last_sent = monotonic()
            numbers = f"frame {result.index}, {self._rate.fps:.1f} FPS, {result.dropped} dropped"
            self._notify(f"{self._say}\nSTATUS={numbers}")
            self._say = "WATCHDOG=1"

    def close(self) -> None:
        """Say that we end."""
        self._notify("STOPPING=1")
        self._socket.close()

    def _notify(self, text: str) -> None:
        self._socket.sendto(text.encode(), self._address)


def notify_socket() -> str:
    """Where systemd listens; "" where it does not."""
    return os.environ.get("NOTIFY_SOCKET", "")
