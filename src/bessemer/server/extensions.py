"""What other packages add, by their entry points: `[project.entry-points."bessemer.providers"]` and its like."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple

from bessemer.dialects import DIALECTS
from bessemer.dialects.base import Dialect
from bessemer.engine import families
from bessemer.gateway.providers import PROVIDERS
from bessemer.gateway.providers.base import ProviderKind
from bessemer.gateway.stages import Stages
from bessemer.tuning import methods

DIALECT: Final = "bessemer.dialects"
"""Names a class that is a `dialects.base.Dialect`."""
PROVIDER: Final = "bessemer.providers"
"""Names a `gateway.providers.base.ProviderKind`."""
STAGE: Final = "bessemer.stages"
"""Names a `gateway.stages.Stages`."""
METHOD: Final = "bessemer.tuning_methods"
"""Names a subclass of `tuning.method.Method`."""
FAMILY: Final = "bessemer.model_families"
"""Names an `engine.family.Family`."""


class Composition(NamedTuple):
    """The tables of this process: Bessemer's own, then those of the packages by the names of their entry points."""

    dialects: tuple[Dialect, ...]
    providers: tuple[ProviderKind, ...]
    stages: Stages
    """Beside the recorder."""


@cache
def load_extensions() -> Composition:
    """Add what the installed packages bring to the tables, once in a process. What they raise is raised."""
    for method in _added(METHOD):
        methods.register(method())
    for family in _added(FAMILY):
        families.register(family)
    stages = list(_added(STAGE))
    return Composition(
        dialects=(*DIALECTS, *(dialect() for dialect in _added(DIALECT))),
        providers=(*PROVIDERS, *_added(PROVIDER)),
        stages=Stages(
            before_route=tuple(stage for some in stages for stage in some.before_route),
            around_answer=tuple(stage for some in stages for stage in some.around_answer),
            around_attempt=tuple(stage for some in stages for stage in some.around_attempt),
        ),
    )


def _added(group: str) -> Iterator[Any]:
    return (entry.load() for entry in sorted(entry_points(group=group), key=lambda entry: entry.name))
