"""Limits as the configuration file writes them."""

from typing import Literal, TypeAlias

import msgspec

from bessemer.core.errors import ConfigError
from bessemer.core.types import Frozen

Part: TypeAlias = Literal["key", "project", "route", "model"]
Window: TypeAlias = Literal["minute", "day", "month"]


class LimitRule(Frozen, frozen=True):
    """`[limits.NAME]`: what each of these may use, together with all else that the rule does not tell apart."""

    per: tuple[Part, ...] = ()
    """Each of these, or each combination, has a count of its own; none: one count for all."""
    only: dict[Part, str] = msgspec.field(default_factory=dict)
    """It holds for this key, project, route or model alone."""
    window: Window = "minute"
    """Of UTC."""
    requests: int | None = None
    tokens: int | None = None
    """Of input and output."""
    usd: float | None = None
    concurrency: int | None = None
    """Requests at once, in each process."""

    @property
    def of_models(self) -> bool:
        """Whether it tells models apart: then it counts tries."""
        return "model" in self.per or "model" in self.only


def check_limit(name: str, rule: LimitRule) -> LimitRule:
    """Return the rule. Raises ConfigError for one that limits nothing, or to nothing."""
    figures = {field: getattr(rule, field) for field in ("requests", "tokens", "usd", "concurrency")}
    given = {field: figure for field, figure in figures.items() if figure is not None}
    if not given:
        raise ConfigError(f"[limits.{name}]: give requests, tokens, usd or concurrency.", param="requests")
    for field, figure in given.items():
        if not figure > 0:
            raise ConfigError(f"[limits.{name}]: {field} must be above 0.", param=field)
    return rule
