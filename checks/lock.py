"""Writes requirements.lock: the newest versions that pyproject.toml allows, with the hashes of their files.

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


def wanted() -> list[str]:
    """Return every requirement of pyproject.toml, extras included, and what it is built with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *BUILD]
    for extra in project["optional-dependencies"].values():
        listed += [line for line in extra if not line.startswith(f"{project['name']}[")]
    return sorted(set(listed))


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
