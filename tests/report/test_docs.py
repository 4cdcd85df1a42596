"""The documentation is true: the measured table is the results', links lead somewhere, verbs exist."""

import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from bessemer.cli.main import app

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_table_is_that_of_the_results():
    done = subprocess.run([sys.executable, "-m", "lab.readme_table", "--check"], check=False, cwd=ROOT)
    assert done.returncode == 0, "run `python -m lab.readme_table`"


def test_links_of_the_documentation_exist():
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_verbs_in_the_readme_exist():
    verbs = set(get_command(app).commands)
    named = set(re.findall(r"^(?:\.venv/bin/)?bessemer ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named
    assert named <= verbs


def test_the_layers_in_the_architecture_are_the_enforced_ones():
    page = (ROOT / "docs" / "architecture.md").read_text()
    block = page.split("```")[1]
    named = [re.split(r"\s{3,}", line)[0] for line in block.strip().splitlines()]
    contract = (ROOT / "pyproject.toml").read_text().split("layers = [")[1].split("]")[0]
    layers = [
        re.findall(r"[a-z]+", re.sub(r"\([a-z]+\)", lambda m: "" if m[0] == "(agents)" else m[0], text))
        for text in re.findall(r'"([^"]+)"', contract)
    ]
    assert [re.findall(r"[a-z]+", line) for line in named] == layers


def test_the_python_of_the_readme_is_that_of_the_example():
    block = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    assert len(lines) == 10
    example = (ROOT / "examples" / "loop.py").read_text()
    assert [line for line in lines[2:] if line not in example] == []
    assert lines[1].replace('Path("out/tickets")', "folder") in example
