"""The narrow port that every provider implements: one call in, a stream of chunks out.

A provider knows nothing of routes, records, prices or clients. It raises ProviderError (with `retryable`), RateLimited
or InvalidRequest, and stops its upstream when its iterator is closed.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from bessemer.core.conversation import AnswerRules, Message, Sampling, Tool
from bessemer.core.reply import ReplyPiece
from bessemer.core.types import JSON, Frozen, Model, ModelVersion


class ProviderCall(Frozen, frozen=True):
    """Everything one attempt needs."""

    model: Model
    version: ModelVersion
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    sampling: Sampling = Sampling()
    rules: AnswerRules = AnswerRules()
    input: JSON | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    dialect: str | None = None
    """Of the client; the next two, and parts of messages that are no text, mean something to it alone."""
    extra: JSON = msgspec.field(default_factory=dict)
    spelling: JSON = msgspec.field(default_factory=dict)
    stream: bool = False
    """The client reads as it is generated; otherwise an upstream may answer in one piece."""
    need_logprobs: bool = False
    """The route's confidence score is made of them."""


class Provider(Protocol):
    """Where answers come from."""

    def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        """Answer one call; an async generator, so that closing it stops the work.

        Raises ProviderError (`retryable`: another target may help), RateLimited, InvalidRequest, EngineError.
        """
        ...

    async def close(self) -> None:
        """Release connections and engines."""
        ...
