"""A real browser without a window, for the pages that we make; tests skip where none is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = ("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")
TIMEOUT_S = 120
"""How long a loaded machine may take before a test gives up."""


@contextmanager
def opened(profile: Path, *flags: str) -> Iterator[Any]:
    """A Chromium with a profile of its own; its console is kept."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra 'dev')")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(TIMEOUT_S)
    try:
        yield browser
    finally:
        browser.quit()


def wait(browser: Any, script: str, timeout_s: float = TIMEOUT_S) -> None:
    """Until a script returns something true."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, timeout_s, poll_frequency=0.1).until(lambda opened: opened.execute_script(script))
