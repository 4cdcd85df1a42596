"""Nothing that is read runs code: no source of the product reads a format that may."""

import ast
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

SOURCES = sorted(Path(str(resources.files("bessemer"))).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "jsonpickle", "yaml"}
CALLS = {"torch.load", "torch.jit.load", "yaml.load", "pandas.read_pickle"}
SETTINGS = {"allow_pickle", "trust_remote_code"}


def found(tree: ast.AST) -> Iterator[str]:
    """Name what a source imports, calls or asks for that may run what it reads."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        yield from (name for name in names if name in CALLS or name.partition(".")[0] in MODULES)
        if isinstance(node, ast.keyword) and node.arg in SETTINGS:
            yield node.arg


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_a_source_reads_no_format_that_runs_code(path: Path) -> None:
    assert list(found(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import dill as d",
        "from torch import load",
        "torch.load('x')",
        "yaml.load(x)",
        "np.load(x, allow_pickle=True)",
        "f(trust_remote_code=True)",
    ],
)
def test_the_search_finds_them(line: str) -> None:
    assert list(found(ast.parse(line)))
