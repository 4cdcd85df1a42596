"""What other packages add, by their entry points: `[project.entry-points."bessemer.tuning_methods"]` and its like."""

from functools import cache
from importlib.metadata import entry_points
from typing import Final

from bessemer.core.errors import ConfigError
from bessemer.engine import families
from bessemer.server.kinds import KINDS, Kinds
from bessemer.tuning import methods

METHODS: Final = "bessemer.tuning_methods"
"""Names a subclass of `tuning.method.Method`."""
JOB_KINDS: Final = "bessemer.job_kinds"
"""Names a `jobs.kinds.JobKind`."""
FAMILIES: Final = "bessemer.model_families"
"""Names an `engine.family.Family`."""


@cache
def load_extensions() -> None:
    """Add what the installed packages bring to the tables, once in a process. What they raise is raised."""
    for entry in entry_points(group=METHODS):
        methods.register(entry.load()())
    for entry in entry_points(group=FAMILIES):
        families.register(entry.load())


@cache
def job_kinds() -> Kinds:
    """Return the kinds of jobs of this installation. Raises ConfigError when two have the same name or path."""
    kinds: Kinds = (*KINDS, *(entry.load() for entry in entry_points(group=JOB_KINDS)))
    for name in ("name", "path"):
        values = [getattr(kind, name) for kind in kinds]
        if twice := {value for value in values if values.count(value) > 1}:
            raise ConfigError(f"Two kinds of jobs have the {name} {min(twice)!r}: uninstall one of their packages.")
    return kinds
