"""What an installation is composed of that others add to: the tables of dialects and providers, and the stages."""

from dataclasses import dataclass, field
from typing import Final

from bessemer.dialects import DIALECTS
from bessemer.dialects.base import Dialect
from bessemer.gateway.providers import PROVIDERS
from bessemer.gateway.providers.base import ProviderKind
from bessemer.gateway.stages import Stages


@dataclass(frozen=True, slots=True)
class Composition:
    """Given to the composition root; what is Bessemer's own by default."""

    dialects: tuple[Dialect, ...] = DIALECTS
    providers: tuple[ProviderKind, ...] = PROVIDERS
    stages: Stages = field(default_factory=Stages)
    """Beside the recorder."""


STANDARD: Final = Composition()
