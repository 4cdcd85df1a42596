"""Costs by the formulas of public price pages, worked out by hand; prices are those of the pages on the dates told."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.prices import Price, PriceTier, cost_of
from bessemer.core.reply import Usage

GEMINI = Price(
    id="gemini-2.5-pro",
    source="as third parties quote https://ai.google.dev/gemini-api/docs/pricing: prompts up to and above 200k tokens",
    date="2026-03",
    input_per_million=1.25,
    output_per_million=10.0,
    cached_input_per_million=0.125,
    tiers=(
        PriceTier(
            above_input_tokens=200_000,
            input_per_million=2.5,
            output_per_million=15.0,
            cached_input_per_million=0.25,
        ),
    ),
    service_tiers={"batch": 0.5, "flex": 0.5, "priority": 1.8},
)
OPUS = Price(
    id="claude-opus-4.8",
    source="https://platform.claude.com/docs/en/about-claude/pricing: 5-minute cache writes; batch as others quote it",
    date="2026-11",
    input_per_million=5.0,
    output_per_million=25.0,
    cached_input_per_million=0.5,
    cache_write_per_million=6.25,
    service_tiers={"batch": 0.5},
)
AUDIO = Price(
    id="gpt-4o-audio-preview",
    source="as third parties quote https://platform.openai.com/docs/pricing: text tokens, audio tokens",
    date="2026-03",
    input_per_million=2.5,
    output_per_million=10.0,
    audio_input_per_million=40.0,
    audio_output_per_million=80.0,
)
MACHINE = Price(id="machine", source="-", date="2026-11", per_hour=0.36)


def used(given: int | None, made: int | None, cached: int | None = None, **details: dict[str, object]) -> Usage:
    return Usage(input_tokens=given, output_tokens=made, cached_tokens=cached, details=dict(details))


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        # 200,000 tokens are not above 200,000: 200,000 x 1.25 + 1,000 x 10
        (GEMINI, used(200_000, 1_000), 0.26),
        # one more, and all of them cost more: 200,001 x 2.5 + 1,000 x 15
        (GEMINI, used(200_001, 1_000), 0.5150025),
        # 150,000 x 2.5 + 100,000 cached x 0.25 + 1,000 x 15
        (GEMINI, used(250_000, 1_000, 100_000), 0.415),
        # thoughts are output at the price of output: 1,000 x 1.25 + 500 x 10
        (GEMINI, used(1_000, 500, completion_tokens_details={"reasoning_tokens": 400}), 0.00625),
        # of 10,000 tokens 6,000 read at 0.5, 3,000 written at 6.25, 1,000 at 5; 200 x 25
        (OPUS, used(10_000, 200, 6_000, prompt_tokens_details={"cache_write_tokens": 3_000}), 0.03175),
        # of 1,100 tokens 1,000 heard at 40, 100 at 2.5; of 700 500 spoken at 80, 200 at 10
        (
            AUDIO,
            used(
                1_100, 700, prompt_tokens_details={"audio_tokens": 1_000},
                completion_tokens_details={"audio_tokens": 500},
            ),
            0.08225,
        ),
        (AUDIO, used(1_000, 0, prompt_tokens_details={"image_tokens": 400}), 0.0025),
        (AUDIO, used(1_000, 10, completion_tokens_details={"image_tokens": 10}), None),
        (OPUS, used(1_000, 10, prompt_tokens_details={"audio_tokens": 1}), None),
        (OPUS, used(None, 10), None),
        (OPUS, used(10, None), None),
        # what an upstream writes in the place of a number counts for nothing, more than there are for all there are
        (OPUS, used(1_000, 0, prompt_tokens_details={"audio_tokens": "many", "cache_write_tokens": True}), 0.005),
        (OPUS, used(1_000, 0, 5_000), 0.0005),
    ],
)  # fmt: skip
def test_it_costs_what_the_price_page_says(price: Price, usage: Usage, usd: float | None) -> None:
    assert cost_of(price, usage, 1.0) == (None if usd is None else pytest.approx(usd, rel=1e-12))


def test_a_service_tier_has_its_factor_and_is_unknown_without() -> None:
    plain = used(1_000_000, 0)
    asked = {
        tier: msgspec.structs.replace(plain, service_tier=tier)
        for tier in ("batch", "priority", "default", "on_demand")
    }
    assert {tier: cost_of(OPUS, usage, None) for tier, usage in asked.items()} == {
        "batch": 2.5,
        "priority": None,
        "default": 5.0,
        "on_demand": 5.0,
    }
    assert cost_of(GEMINI, asked["priority"], None) == pytest.approx(2.5 * 1.8)


def test_hours_are_charged_by_seconds_alone() -> None:
    assert cost_of(MACHINE, used(None, None), 10.0) == pytest.approx(0.001)
    assert cost_of(MACHINE, used(1, 1), None) is None


def test_what_the_upstream_states_is_not_charged() -> None:
    assert cost_of(OPUS, msgspec.structs.replace(used(1_000_000, 0), stated_usd=0.01), None) == 5.0


counts = st.integers(0, 400_000)


@given(given_=counts, made=counts, cached=counts, written=counts)
def test_no_count_makes_it_dearer_than_its_dearest_token(given_: int, made: int, cached: int, written: int) -> None:
    cost = cost_of(OPUS, used(given_, made, cached, prompt_tokens_details={"cache_write_tokens": written}), None)
    assert cost is not None
    assert (given_ * 0.5 + made * 25.0) / 1e6 - 1e-9 <= cost <= (given_ * 6.25 + made * 25.0) / 1e6 + 1e-9
