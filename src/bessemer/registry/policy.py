"""The gate's policy: what the operator's file, not a request, says about who may become champion."""

import msgspec

from bessemer.core.errors import ConfigError, InvalidRequest
from bessemer.core.types import Frozen


class GatePin(Frozen, frozen=True):
    """What the gate of one route or model is held to."""

    dataset: str | None = None
    """Id of the only dataset whose hold-out split counts."""
    incumbent: str | None = None
    """What a candidate is compared with while there is no champion: a route, model, alias or version."""


class GatePolicy(Frozen, frozen=True):
    """`[gate]` of the configuration file."""

    margin: float = 0.02
    """Largest loss that counts as not worse where a request names none, in the metric's unit (0.02: two points)."""
    max_margin: float = 0.05
    """Largest margin that a request may name."""
    alpha: float = 0.025
    """Chance, over all looks at the same items, that a candidate passes which is worse by the margin."""
    min_items: int = 50
    """Pairs that a gate needs at least."""
    min_discordant: int = 1
    """Pairs that tell the two systems apart which a gate needs at least: without any the metric has shown nothing."""
    pins: dict[str, GatePin] = msgspec.field(default_factory=dict)
    """By name of a route or model."""

    def margin_of(self, asked: float | None) -> float:
        """Return the margin in force. Raises InvalidRequest for one that is negative or above the ceiling."""
        margin = self.margin if asked is None else asked
        if not 0 <= margin <= self.max_margin:
            raise InvalidRequest(
                f"`margin` is how much worse the candidate may be: between 0 and {self.max_margin:g} here (the "
                f"operator's [gate] max_margin), not {margin:g}.",
                param="margin",
            )
        return margin


def check_policy(policy: GatePolicy) -> GatePolicy:
    """Return the policy. Raises ConfigError for values that mean nothing."""
    if not 0 <= policy.margin <= policy.max_margin < 1:
        raise ConfigError("[gate]: 0 <= margin <= max_margin < 1 must hold.", param="margin")
    if not 0 < policy.alpha < 0.5:
        raise ConfigError("[gate]: alpha must lie between 0 and 0.5.", param="alpha")
    if policy.min_items < 1 or policy.min_discordant < 0:
        raise ConfigError("[gate]: min_items must be at least 1, min_discordant at least 0.", param="min_items")
    return policy
