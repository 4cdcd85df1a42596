"""What other packages add, by their entry points: `[project.entry-points."bessemer.tuning_methods"]` and its like."""

from functools import cache
from importlib.metadata import entry_points
from typing import Final

from bessemer.engine import families
from bessemer.tuning import methods

METHODS: Final = "bessemer.tuning_methods"
"""Names a subclass of `tuning.method.Method`."""
FAMILIES: Final = "bessemer.model_families"
"""Names an `engine.family.Family`."""


@cache
def load_extensions() -> None:
    """Add what the installed packages bring to the tables, once in a process. What they raise is raised."""
    for entry in entry_points(group=METHODS):
        methods.register(entry.load()())
    for entry in entry_points(group=FAMILIES):
        families.register(entry.load())
