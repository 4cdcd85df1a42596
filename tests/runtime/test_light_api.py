"""What the API process does without: nothing that trains or fits is loaded before a job needs it."""

import subprocess
import sys


def test_the_api_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, bessemer.runtime.serve, bessemer.runtime.app\n"
        "print(sorted({'torch', 'sklearn', 'transformers', 'joblib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
