"""What is asked of the engine and what it answers. No torch here: callers may import these types freely."""

from typing import Literal

import msgspec

from bessemer.core.conversation import Choices, Constraint, JsonSchema, Lark, Regex

__all__ = [
    "MAX_BIASED_TOKENS",
    "Choices",
    "Constraint",
    "EngineStats",
    "FinishReason",
    "GenerateRequest",
    "Generation",
    "JsonSchema",
    "Lark",
    "Regex",
    "TokenEvent",
    "TopLogprob",
]
MAX_BIASED_TOKENS = 1024
"""In one request's `logit_bias`."""
FinishReason = Literal["stop", "length"]


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One completion of one prompt. A group of n samples is the same request n times, with different seeds."""

    prompt: tuple[int, ...]
    """Token ids, chat template applied."""
    max_tokens: int = 256
    temperature: float = 1.0
    """0: the most likely token each time."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens that holds this probability."""
    top_k: int = 0
    """Sample from this many most likely tokens; 0: all."""
    seed: int | None = None
    """Same seed and request, same answer, whatever else is in the batch. None: fresh entropy."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not part of it."""
    top_logprobs: int = 0
    """Report this many most likely alternatives per token."""
    adapter: str | None = None
    """Id given to `Engine.add_adapter`; None: the base model."""
    logit_bias: dict[int, float] = {}
    """Added to the logits of tokens before sampling."""
    constraint: Constraint | None = None


class TopLogprob(msgspec.Struct, frozen=True):
    """An alternative at one position."""

    token: int
    logprob: float


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A finished answer."""

    text: str
    """Without the terminator, cut before a stop text."""
    tokens: tuple[int, ...]
    """Everything that was sampled or forced, the terminator included when there is one."""
    logprobs: tuple[float, ...]
    """Per token: natural log-probability under the model at temperature 1, before bias, top_k and top_p; where a
    grammar leaves few tokens, among these, so 0 for a forced one."""
    forced: tuple[bool, ...]
    """Per token: a grammar left one possibility, so nothing was decided there."""
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] = ()
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose keys and values were already there."""
    completion_tokens: int
    ttft_s: float
    """Seconds from submission to the first token."""
    duration_s: float
    """Seconds from submission to the end."""
    engine_seconds: float
    """Share of the engine's busy time: each step is split over its requests by the tokens computed. What it costs."""
    version: str
    """Hash of the weights that answered: base and adapter."""
    choice_logprobs: dict[str, float] | None = None
    """Choices only: log-probability of each label with terminator, given the prompt; neither normalised nor biased."""


class TokenEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a stream. Text is held back while a stop text or a character may still be completed."""

    text: str
    token: int | None = None
    """None: only held-back text is released."""
    logprob: float | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    """On the last event only."""
    generation: Generation | None = None
    """On the last event only: the whole answer."""


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters since the start and the state now."""

    running: int
    waiting: int
    requests: int
    tokens_sampled: int
    tokens_prefilled: int
    tokens_cached: int
    """Prompt tokens that were not computed again."""
    kernel: Literal["native", "torch"]
    """Whether attention runs in the compiled kernel."""
