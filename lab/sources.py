"""Says where each benchmark data set comes from, and whether the files under a folder are those that were measured.

    python -m lab.sources                 # repository, paths, licence and form of each
    python -m lab.sources --root FOLDER   # also: is each file there, and the same

Exit code 1 when a file is missing or another one.
"""

import argparse
import hashlib
import sys
import tomllib
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "sources.toml"


def main() -> int:
    """Print the sources; check the files under a root."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder that the files' names start from")
    root = parser.parse_args().root
    wrong = 0
    for name, source in tomllib.loads(SOURCES.read_text()).items():
        print(f"{name}\n  from     {source['repository']}: {'; '.join(source['paths'])}")
        print(f"  licence  {source['licence']}\n  form     {source['form']}")
        for file, sha256 in source["sha256"].items():
            state = "" if root is None else f"  {_state(root / file, sha256)}"
            wrong += state not in {"", "  the same"}
            print(f"  file     {file}  sha256 {sha256[:12]}{state}")
    return int(wrong > 0)


def _state(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    return "the same" if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else "another file"


if __name__ == "__main__":
    sys.exit(main())
