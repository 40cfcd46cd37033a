from __future__ import annotations

import subprocess
import sys

import pytest

from export.origins import find
from runtime.errors import UserError


def test_an_unknown_network_names_the_nearest_match():
    with pytest.raises(UserError, match=r"unknown network 'lrasp'; known: .*Try: lraspp$"):
        find("lrasp")


def test_listing_needs_no_torch():
    code = ("import sys; from export import origins; origins.names(); origins.find('lraspp')\n"
            "sys.exit('torch' in sys.modules or 'cv2' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
