"""Starts a grader's process: `python -I <this folder>`. Its modules are imported as a package that stands alone."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[0] = str(here.parent)
    keeper = importlib.import_module(f"{here.name}.keeper")
    # What stands beside this folder is not for the grader's imports.
    del sys.path[0]
    sys.exit(keeper.main())
