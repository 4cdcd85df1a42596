"""Prices, and the one formula by which tokens or seconds become dollars.

Counts are OpenAI's: cached, written, audio and image tokens are parts of the input's, reasoning, audio and image tokens
of the output's. What is not known is blank: tokens of a kind that surely costs something else, and has no price here.
"""

from typing import Any, Final

import msgspec

from bessemer.core.reply import Usage
from bessemer.core.types import Frozen

_PER: Final = 1_000_000
_PRICED_APART: Final = frozenset({"flex", "batch", "priority"})
"""Service tiers whose prices are never the list price."""


class TokenRates(Frozen, frozen=True, kw_only=True):
    """USD per million tokens."""

    input_per_million: float | None = None
    output_per_million: float | None = None
    cached_input_per_million: float | None = None
    """Of the input tokens that the provider found in its cache; None: they cost what the others do."""
    cache_write_per_million: float | None = None
    """Of those that it put there; None: they cost what the others do."""
    image_input_per_million: float | None = None
    """None: they cost what the others do."""
    audio_input_per_million: float | None = None
    """None: not known."""
    reasoning_per_million: float | None = None
    """None: they cost what the other output does."""
    audio_output_per_million: float | None = None
    """None: not known."""
    image_output_per_million: float | None = None
    """None: not known."""


class PriceTier(TokenRates, frozen=True, kw_only=True):
    """What every token of a call costs whose input is longer."""

    above_input_tokens: int


class Price(TokenRates, frozen=True, kw_only=True):
    """A dated list price: by tokens, or by the hour, which charges measured seconds."""

    id: str
    source: str
    date: str
    per_hour: float | None = None
    tiers: tuple[PriceTier, ...] = ()
    service_tiers: dict[str, float] = msgspec.field(default_factory=dict)
    """Factors on the whole by the service tier that the upstream says it gave: `batch = 0.5`."""


def cost_of(price: Price, usage: Usage, seconds: float | None) -> float | None:
    """Return what a call costs in USD; None when what it is charged by is unknown.

    `seconds`: measured. The upstream's own figure, `usage.stated_usd`, is not looked at.
    """
    if price.per_hour is not None:
        return None if seconds is None else seconds * price.per_hour / 3600
    factor = _factor(price, usage.service_tier)
    if usage.input_tokens is None or usage.output_tokens is None or factor is None:
        return None
    fitting = [tier for tier in price.tiers if usage.input_tokens > tier.above_input_tokens]
    rates: TokenRates = max(fitting, key=lambda tier: tier.above_input_tokens, default=price)
    given, said = usage.part("prompt_tokens_details"), usage.part("completion_tokens_details")
    plain, made = rates.input_per_million, rates.output_per_million
    paid_input = _paid(
        usage.input_tokens,
        plain,
        (usage.cached_tokens or 0, _or(rates.cached_input_per_million, plain)),
        (given("cache_write_tokens"), _or(rates.cache_write_per_million, plain)),
        (given("audio_tokens"), rates.audio_input_per_million),
        (given("image_tokens"), _or(rates.image_input_per_million, plain)),
    )
    paid_output = _paid(
        usage.output_tokens,
        made,
        (said("audio_tokens"), rates.audio_output_per_million),
        (said("image_tokens"), rates.image_output_per_million),
        (said("reasoning_tokens"), _or(rates.reasoning_per_million, made)),
    )
    if paid_input is None or paid_output is None:
        return None
    return (paid_input + paid_output) * factor / _PER


def _factor(price: Price, service_tier: str | None) -> float | None:
    if service_tier in price.service_tiers:
        return price.service_tiers[service_tier]
    return None if service_tier in _PRICED_APART else 1.0


def _or(rate: float | None, other: float | None) -> float | None:
    return other if rate is None else rate


def _paid(tokens: int, rate: float | None, *parts: tuple[int, float | None]) -> float | None:
    """Return the price of tokens of which some are of other kinds, no more than there are."""
    total, rest = 0.0, tokens
    for number, other in (*parts, (tokens, rate)):
        some = min(number, rest)
        if some and other is None:
            return None
        total, rest = total + some * (other or 0.0), rest - some
    return total


def fault(rates: TokenRates) -> str | None:
    """Return which field of token prices is below 0; None: none is."""
    figures: dict[str, Any] = {name: getattr(rates, name) for name in TokenRates.__struct_fields__}
    return next((name for name, value in figures.items() if value is not None and value < 0), None)
