"""Tokens are drawn from the distribution that was asked for, and log-probabilities are the model's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.engine.sampling import SamplingRow, sample, sample_listed, score

LOGITS = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]))


def draw(row: SamplingRow, logits: torch.Tensor = LOGITS, allowed: torch.Tensor | None = None) -> int:
    return sample(logits[None], [row], [allowed])[0].token


def test_the_uniform_number_picks_by_cumulative_probability() -> None:
    assert [draw(SamplingRow(uniform=u)) for u in (0.0, 0.49, 0.51, 0.74, 0.76, 0.88, 0.99)] == [0, 0, 1, 1, 2, 3, 4]


def test_temperature_sharpens() -> None:
    # At temperature 1/2 the probabilities are squared: 1/4, 1/16, ... of a sum of 0.3359375.
    assert [draw(SamplingRow(temperature=0.5, uniform=u)) for u in (0.74, 0.75, 0.92, 0.94)] == [0, 1, 1, 2]
    assert draw(SamplingRow(temperature=0, uniform=0.99)) == 0


@given(st.floats(0, 1, exclude_max=True))
def test_top_k_and_top_p_keep_the_most_likely(uniform: float) -> None:
    assert draw(SamplingRow(top_k=2, uniform=uniform)) == (0 if uniform < 2 / 3 else 1)
    assert draw(SamplingRow(top_p=0.5, uniform=uniform)) == 0
    assert draw(SamplingRow(top_p=0.6, uniform=uniform)) == (0 if uniform < 2 / 3 else 1)
    assert draw(SamplingRow(top_k=2, top_p=0.5, uniform=uniform)) == 0


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1, exclude_max=True), st.sampled_from([300, 256, 49]))
def test_a_token_is_never_impossible(seed: int, uniform: float, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator) * 20
    allowed = torch.rand(size, generator=generator) < 0.05
    allowed[seed % size] = True
    for row in (
        SamplingRow(uniform=uniform),
        SamplingRow(top_p=0.5, uniform=uniform),
        SamplingRow(temperature=0),
        SamplingRow(bias={0: 100.0}),
    ):
        assert allowed[draw(row, logits, allowed.nonzero()[:, 0])]


@given(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.7, 1.0]), st.sampled_from([1.0, 0.6]))
def test_a_grammar_that_allows_all_changes_nothing(uniform: float, temperature: float, top_p: float) -> None:
    row = SamplingRow(uniform=uniform, temperature=temperature, top_p=top_p)
    assert draw(row) == draw(row, allowed=torch.arange(5))


def test_frequencies_match_the_distribution() -> None:
    rows = [SamplingRow(uniform=(i + 0.5) / 4000) for i in range(4000)]
    logits = torch.randn(700, generator=torch.Generator().manual_seed(1)) * 2
    drawn = sample(logits.expand(4000, -1), rows)
    counts = torch.bincount(torch.tensor([d.token for d in drawn]), minlength=700) / 4000
    assert float((counts - torch.softmax(logits, -1)).abs().max()) < 0.001


def test_logprobs_are_before_bias_mask_and_temperature() -> None:
    rows = [
        SamplingRow(temperature=0.3, uniform=0.5),
        SamplingRow(temperature=0, bias={3: 9.0}),
        SamplingRow(temperature=0),
        SamplingRow(top_k=1, top_logprobs=2),
    ]
    allowed = [None, None, torch.tensor([1, 2, 3, 4]), None]
    drawn = sample(LOGITS.expand(4, -1), rows, allowed)
    assert [d.token for d in drawn] == [0, 3, 1, 0]
    assert [d.logprob for d in drawn] == pytest.approx([math.log(p) for p in (0.5, 0.0625, 0.25, 0.5)])
    assert [(t.token, round(math.exp(t.logprob), 4)) for t in drawn[3].top] == [(0, 0.5), (1, 0.25)]
    assert score(LOGITS[None], [(0, 2), (0, 0)]) == pytest.approx([math.log(0.125), math.log(0.5)])


def test_listed_tokens_are_a_distribution_of_their_own() -> None:
    ids = torch.tensor([1, 3, 4])  # 0.25, 0.0625, 0.0625: two thirds, a sixth, a sixth
    drawn = [sample_listed(LOGITS[ids], ids, SamplingRow(uniform=u, top_logprobs=9)) for u in (0.6, 0.7, 0.9)]
    assert [d.token for d in drawn] == [1, 3, 4]
    assert [d.logprob for d in drawn] == pytest.approx([math.log(p) for p in (2 / 3, 1 / 6, 1 / 6)])
    assert drawn[0].top[0].token == 1
    assert len(drawn[0].top) == 3
    assert sample_listed(LOGITS[ids], ids, SamplingRow(temperature=0, bias={0: 50.0, 3: 9.0})).token == 3
