"""A page in a real browser: what it made of it, and what it complained of."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from planner.tests.markup import Elements

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)")
_COMPLAINT = re.compile(r'CONSOLE:\d+\] "(.*)", source: ')


class InBrowser(NamedTuple):
    """A page as the browser has it once it is loaded."""

    elements: Elements
    complaints: list[str]
    """What the console shows: errors, and what the page's policy kept from running or loading."""


def in_browser(page: Path, folder: Path) -> InBrowser:
    """Open a file; `folder` takes the browser's profile."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    return InBrowser(Elements(shown.stdout), _COMPLAINT.findall(shown.stderr))
