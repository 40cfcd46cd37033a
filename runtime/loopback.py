"""Who may look at what this machine serves: this machine alone, or the network that it was opened to."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address or a name stands for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_ask(host: str | None, local: bool) -> bool:
    """Whether a request may be answered.

    Args:
        host: its Host header. A page of another name that resolves to this machine must not see it (DNS rebinding).
        local: whether the server is on a loopback address; one that was opened to the network answers everybody.
    """
    name = (host or "").rpartition(":")[0] if (host or "").rpartition(":")[2].isdigit() else (host or "")
    return not local or is_loopback(name.strip("[]"))
