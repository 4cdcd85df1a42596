"""The narrow port that every provider implements: one call in, a stream of chunks out.

A provider knows nothing of routes, records, prices or clients. It raises ProviderError (with `retryable`), RateLimited
or InvalidRequest, and stops its upstream when its iterator is closed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from bessemer.core.conversation import AnswerRules, Message, Sampling, Tool, ToolChoice
from bessemer.core.models import Model, ModelVersion, ProviderSettings
from bessemer.core.reply import ReplyPiece
from bessemer.core.types import JSON, Frozen
from bessemer.gateway.providers.engines import Engines
from bessemer.gateway.providers.networks import Networks
from bessemer.store.blobs import BlobStore


class ProviderCall(Frozen, frozen=True):
    """Everything one attempt needs."""

    model: Model
    version: ModelVersion
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    sampling: Sampling = Sampling()
    rules: AnswerRules = AnswerRules()
    embed: bool = False
    """A vector of each message is wanted, not an answer."""
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


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may be made of."""

    environ: Mapping[str, str]
    """API keys that models name."""
    engines: Engines
    """Those of this process."""
    blobs: BlobStore
    """Where rungs lie."""
    networks: Networks
    """Of this process, whose vectors heads read."""
    count_tokens: Callable[[str, str], Awaitable[int]]
    """(name of the local model whose tokenizer counts, text) -> tokens."""


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """A line in the table of providers: what `provider = "name"` in the configuration file means."""

    name: str
    settings: type[ProviderSettings]
    """What a model's table may say beside what every model may."""
    open: Callable[[ProviderContext], Provider]
    """Make the one provider that serves all models of the kind; nothing may be asked of anybody yet."""
