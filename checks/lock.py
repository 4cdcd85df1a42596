"""Writes requirements.lock: the newest versions that both pyproject.toml allow, with the hashes of their files.

Run by `make lock`, in an environment that has pip-tools. torch is left out: its builds for CPU and for CUDA are
different files of one version, which pyproject.toml pins.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HEAD = "# All that Bessemer and its tests install but torch, with hashes: `make lock` writes it, make installs it.\n"
BUILD = ("hatchling", "editables")
"""What an editable installation is built with."""
OWN = "bessemer"
"""How the names of what this repository holds begin."""


def wanted() -> list[str]:
    """Return every requirement of both distributions, extras included, and what they are built with."""
    listed = {*BUILD}
    for folder in (ROOT, ROOT / "planner"):
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        listed |= {line for lines in (project["dependencies"], *extras) for line in lines}
    return sorted(line for line in listed if not line.startswith(OWN))


def main() -> int:
    """Resolve and write the file; return the exit code of the resolver."""
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "all.in", Path(folder) / "lock"
        asked.write_text("\n".join(wanted()) + "\n")
        command = [
            sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe",
            "--unsafe-package", "torch", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host",
            "--no-annotate", "--no-header", "--strip-extras", "--output-file", str(found), str(asked),
        ]  # fmt: skip
        done = subprocess.run(command, check=False)  # noqa: S603 - fixed words
        if done.returncode == 0:
            pinned, _, _ = found.read_text().partition("\n# The following packages are considered to be unsafe")
            LOCK.write_text(HEAD + pinned.rstrip() + "\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
