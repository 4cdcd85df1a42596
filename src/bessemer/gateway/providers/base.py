"""The narrow port that every provider implements: one call in, a stream of chunks out.

A provider knows nothing of routes, records, prices or clients. It raises ProviderError (with `retryable`), RateLimited
or InvalidRequest, and stops its upstream when its iterator is closed.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from bessemer.core.types import JSON, Frozen, Model, ModelVersion, TokenLogprob
from bessemer.engine.request import Constraint


class Sampling(Frozen, frozen=True):
    """Options as the client sent them; None was not sent, and is never sent on. A call's temperature may be the
    version's own."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    response_format: JSON | None = None
    structured_outputs: JSON | None = None

    @property
    def limit(self) -> int | None:
        """The client's limit of generated tokens under either of its two names."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


class AnswerRules(Frozen, frozen=True):
    """What the version, its prompt or the client demands of the answer."""

    constraint: Constraint | None = None
    requested: bool = False
    """The constraint is the client's own, not that of the version or its prompt."""
    max_tokens: int = 256
    """Limit when the client sent none."""
    max_tokens_declared: bool = False
    """Somebody chose that limit; otherwise an upstream's own default holds."""


class ProviderCall(Frozen, frozen=True):
    """Everything one attempt needs."""

    model: Model
    version: ModelVersion
    messages: tuple[JSON, ...]
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    rules: AnswerRules = msgspec.field(default_factory=AnswerRules)
    input: JSON | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    stream: bool = False
    """The client reads as it is generated; otherwise an upstream may answer in one piece."""
    need_logprobs: bool = False
    """The route's confidence score is made of them."""


def text_of(message: JSON) -> str:
    """Return a message's text: the content, or its text parts joined."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class ScoredToken(Frozen, frozen=True):
    """A generated token with its log-probability and the best alternatives there, when they were asked for."""

    token: TokenLogprob
    alternatives: tuple[TokenLogprob, ...] = ()
    terminator: bool = False
    """Ends the answer and is not part of its text: recorded, not shown."""


class ProviderUsage(Frozen, frozen=True):
    """Token counts; None is unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float | None = None
    """Upper bound of the seconds this call occupied the model, where the provider knows it."""


class ProviderChunk(Frozen, frozen=True):
    """A piece of the answer; the last one carries finish_reason and, where known, usage and choices."""

    text: str = ""
    reasoning: str = ""
    """What a model thinks before it answers."""
    refusal: str = ""
    """What a model says in place of an answer."""
    tokens: tuple[ScoredToken, ...] = ()
    finish_reason: str | None = None
    usage: ProviderUsage | None = None
    choice_logprobs: dict[str, float] | None = None
    """Normalised (and biased) log-probability per choice."""
    forced: tuple[bool, ...] = ()
    """On the last chunk of a constrained stream: per token of the whole answer, whether a grammar forced it."""


class Provider(Protocol):
    """Where answers come from."""

    def complete(self, call: ProviderCall) -> AsyncIterator[ProviderChunk]:
        """Answer one call; an async generator, so that closing it stops the work.

        Raises ProviderError (`retryable`: another target may help), RateLimited, InvalidRequest, EngineError.
        """
        ...

    async def close(self) -> None:
        """Release connections and engines."""
        ...
