"""What a figure was measured on: the commit of the tree and the processor. Every results file carries both."""

import os
import platform
import subprocess
from pathlib import Path


def commit() -> str:
    """Return the commit of the working tree, marked when anything but results differs from it."""
    known = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)lab/results")
    return known + "-dirty" * bool(changed) if known else "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def processor() -> str:
    """Return the processor's name and number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores"
