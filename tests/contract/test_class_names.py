"""A public class name of the planner and the lab is used once: not twice in them, not in the product either."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def classes(folder: Path) -> Counter[str]:
    """Count the names of the public classes of a folder's modules."""
    trees = (ast.parse(path.read_text()) for path in folder.rglob("*.py"))
    found = (node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return Counter(name for name in found if not name.startswith("_"))


def test_a_class_name_of_the_planner_and_the_lab_is_used_once() -> None:
    beside, product = classes(ROOT / "planner" / "src") + classes(ROOT / "lab"), classes(ROOT / "src")
    assert beside
    assert [name for name, count in beside.items() if count > 1 or name in product] == []
