"""One request on its way through the stages: what is known of it so far. Becomes an Inference at the end."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from bessemer.core.access import Principal
from bessemer.core.conversation import Conversation
from bessemer.core.inferences import Inference, ModelCall
from bessemer.core.reply import GatheredReply, ReplyPiece
from bessemer.core.routes import Route
from bessemer.core.types import JSON
from bessemer.registry.catalog import Catalog


@dataclass(slots=True)
class Exchange:
    """The state of one inference while it runs."""

    inference_id: str
    asked: Conversation
    messages: tuple[JSON, ...]
    """Of the conversation, in the plain form."""
    input_sha256: str
    stream: bool
    """The client reads as it is generated."""
    route: Route
    principal: Principal
    catalog: Catalog
    """As the principal's project sees it."""
    config_sha256: str
    policy_sha256: str
    created_at: float
    started: float
    """On the timer's clock, seconds."""
    origin: str | None = None
    """Why Bessemer asks itself; None: a client asks."""
    calls: list[ModelCall] = field(default_factory=list)
    answer: ModelCall | None = None
    """The call whose answer was returned."""
    said: GatheredReply = field(default_factory=GatheredReply)
    """What has left the route."""
    cache: Literal["exact", "semantic", "miss"] | None = None
    """By what likeness a kept answer was given; None: the route keeps none, or this one was not to be."""
    saved_usd: float | None = None
    """What a hit would have cost, as far as it is known."""
    limits: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    """Headers of the answer that tell what is left of its limits."""
    first_token: float | None = None
    """On the timer's clock, when the first piece of the answer left the route."""
    upstream_s: float = 0.0
    """Seconds spent waiting for providers."""
    finished: float | None = None
    error: str | None = None
    inference: Inference | None = None
    """The record, once the exchange has ended."""

    @property
    def hit(self) -> Literal["exact", "semantic"] | None:
        """By what likeness the answer is a kept one; None: it is a model's."""
        return None if self.cache == "miss" else self.cache

    @property
    def overhead_s(self) -> float:
        """Seconds of the gateway itself: the whole time less the time spent waiting for providers."""
        return max(0.0, (self.finished or self.started) - self.started - self.upstream_s)


AsyncChunks: TypeAlias = AsyncGenerator[ReplyPiece, None]
Next: TypeAlias = Callable[[Exchange], AsyncIterator[ReplyPiece]]
Stage: TypeAlias = Callable[[Exchange, Next], AsyncIterator[ReplyPiece]]
