"""What is installed is what was tested: every requirement is in the lock file, at a version that it allows, by hash."""

import re
from pathlib import Path

from checks.lock import wanted
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked() -> dict[str, tuple[str, int]]:
    """Return version and number of hashes by name."""
    text = (ROOT / "requirements.lock").read_text()
    found = re.findall(
        r"^([\w.-]+)==(\S+)(?: ;[^\\\n]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.M
    )
    return {canonicalize_name(name): (version, hashes.count("--hash")) for name, version, hashes in found}


def test_every_requirement_is_locked_by_hash() -> None:
    lock = locked()
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    assert {canonicalize_name(name) for name in names} == set(lock)
    for line in wanted():
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if name == "torch":  # pinned by version: see the Makefile
            assert str(requirement.specifier) == "==2.13.0"
            assert name not in lock
            continue
        version, hashes = lock[name]
        assert requirement.specifier.contains(version), line
        assert hashes > 0


def test_the_makefile_installs_from_the_lock() -> None:
    text = (ROOT / "Makefile").read_text()
    assert "--no-deps --require-hashes --requirement requirements.lock" in text
    pinned = re.findall(r"pip install[^\n]*|\$\(PIP\)[^\n]*", text)
    assert all("==" in line or "--require-hashes" in line or "--no-deps" in line for line in pinned if "$(BIN)" in line)
