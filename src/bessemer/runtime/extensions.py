"""What other packages add, by their entry points: `[project.entry-points."bessemer.providers"]` and its like."""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple

from bessemer.core.errors import ConfigError
from bessemer.dialects import DIALECTS
from bessemer.dialects.base import Dialect
from bessemer.engine import families
from bessemer.evals import graders
from bessemer.gateway.providers import PROVIDERS
from bessemer.gateway.providers.base import ProviderKind
from bessemer.gateway.stages import Stages
from bessemer.http.kinds import KINDS, Kinds
from bessemer.http.routing import Endpoint
from bessemer.tuning import methods

DIALECT: Final = "bessemer.dialects"
"""Names a class that is a `dialects.base.Dialect`."""
PROVIDER: Final = "bessemer.providers"
"""Names a `gateway.providers.base.ProviderKind`."""
STAGE: Final = "bessemer.stages"
"""Names a `gateway.stages.Stages`."""
METHOD: Final = "bessemer.tuning_methods"
"""Names a subclass of `tuning.method.Method`."""
JOB_KIND: Final = "bessemer.job_kinds"
"""Names a `jobs.kinds.JobKind`."""
GRADER: Final = "bessemer.graders"
"""Names an `evals.grader.GraderKind`."""
ENDPOINT: Final = "bessemer.endpoints"
"""Names an `http.routing.Endpoint`, of JSON or of a page."""
FAMILY: Final = "bessemer.model_families"
"""Names an `engine.family.Family`."""


class Extensions(NamedTuple):
    """The tables of this installation: Bessemer's own lines, then those of packages by the names of entry points."""

    dialects: tuple[Dialect, ...]
    providers: tuple[ProviderKind, ...]
    stages: Stages
    """Beside the recorder."""
    kinds: Kinds
    """Of jobs."""
    endpoints: tuple[Endpoint, ...]
    """Beside Bessemer's own."""


@cache
def load_extensions() -> Extensions:
    """Add what the installed packages bring to the tables, once in a process. What they raise is raised.

    Raises ConfigError when two lines of a table have the same name or path.
    """
    for method in _added(METHOD):
        methods.register(method())
    for family in _added(FAMILY):
        families.register(family)
    for kind in _added(GRADER):
        graders.register(kind)
    stages = list(_added(STAGE))
    extensions = Extensions(
        dialects=(*DIALECTS, *(dialect() for dialect in _added(DIALECT))),
        providers=(*PROVIDERS, *_added(PROVIDER)),
        stages=Stages(
            before_route=tuple(stage for some in stages for stage in some.before_route),
            around_answer=tuple(stage for some in stages for stage in some.around_answer),
            around_attempt=tuple(stage for some in stages for stage in some.around_attempt),
        ),
        kinds=(*KINDS, *_added(JOB_KIND)),
        endpoints=tuple(_added(ENDPOINT)),
    )
    _check_unique("dialects", extensions.dialects, "name", "path")
    _check_unique("providers", extensions.providers, "name")
    _check_unique("kinds of jobs", extensions.kinds, "name", "path")
    return extensions


def _added(group: str) -> Iterator[Any]:
    return (entry.load() for entry in sorted(entry_points(group=group), key=lambda entry: entry.name))


def _check_unique(what: str, lines: Sequence[Any], *names: str) -> None:
    for name in names:
        values = [getattr(line, name) for line in lines]
        if twice := {value for value in values if values.count(value) > 1}:
            raise ConfigError(f"Two {what} have the {name} {min(twice)!r}: uninstall one of their packages.")
