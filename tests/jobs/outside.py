"""An installation with a kind of job from outside the package: `python outside.py up|worker KIND.py DATA`."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from bessemer.core.settings import Settings
from bessemer.server.kinds import KINDS
from bessemer.server.serve import Started, serve
from bessemer.server.worker import work


def kind_of(path: Path) -> Any:
    """Return the kind that a file declares."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.COUNT


def announce(started: Started) -> None:
    """Tell the test where it listens."""
    sys.stdout.write(f"{started.url}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the API or the worker."""
    verb, kind, data = sys.argv[1:]
    settings = Settings(data=Path(data), port=0, fetch_weights=False)
    kinds = (*KINDS, kind_of(Path(kind)))
    if verb == "up":
        serve(settings, announce, worker=False, kinds=kinds)
    else:
        work(settings, kinds=kinds)


if __name__ == "__main__":
    main()
