"""A public class name has one meaning in the product, the planner and the lab together."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "src" / "bessemer", ROOT / "planner" / "src", ROOT / "lab")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def classes() -> dict[str, list[str]]:
    """Return where the public classes are defined, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for where, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{where}:{node.lineno}")
    return found


def test_a_public_class_name_is_used_once() -> None:
    found = classes()
    assert "Conversation" in found
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_no_alias_takes_the_name_of_a_class() -> None:
    found = classes()
    taken = [
        f"{where}:{node.lineno}: {target.id}"
        for where, tree in modules()
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in found
    ]
    assert taken == []
