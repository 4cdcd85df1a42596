"""Rungs are served without what they are fitted with (L3)."""

import subprocess
import sys

CODE = """
import sys
import bessemer.engine.rungs.kinds, pkgutil, importlib, bessemer.engine.rungs as rungs
for module in pkgutil.iter_modules(rungs.__path__):
    importlib.import_module("bessemer.engine.rungs." + module.name)
heavy = {"torch", "sklearn", "lightgbm", "transformers", "scipy", "joblib"} & set(sys.modules)
sys.exit(str(sorted(heavy)) if heavy else 0)
"""


def test_inference_loads_no_torch_and_no_scikit_learn():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
