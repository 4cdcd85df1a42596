"""Size limits of the code: a file has at most 600 lines, a function at most 100. No exceptions list."""

import ast
import sys
from pathlib import Path

FILE_LINES = 600
FUNCTION_LINES = 100
FOLDERS = ("src", "planner", "tests", "lab", "checks", "examples")


def faults(path: Path) -> list[str]:
    """Return one line per limit that a Python file exceeds."""
    text = path.read_text()
    lines = text.count("\n")
    found = [f"{path}: {lines} lines, at most {FILE_LINES}"] if lines > FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}")
    return found


def main() -> int:
    """Check every Python file of the project; return the exit code."""
    skipped = {".venv", "work", "__pycache__"}
    paths = [
        path
        for folder in FOLDERS
        for path in sorted(Path(folder).rglob("*.py"))
        if not any(part in skipped or part.startswith(".venv") for part in path.parts)
    ]
    found = [fault for path in paths for fault in faults(path)]
    sys.stdout.write("".join(f"{fault}\n" for fault in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
