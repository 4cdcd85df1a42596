"""One request on its way through the stages: what is known of it so far. Becomes an Inference at the end."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from bessemer.core.access import Principal
from bessemer.core.conversation import Conversation
from bessemer.core.inferences import Inference, ModelCall
from bessemer.core.reply import ReplyPiece, ScoredToken, ToolCallPiece
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
    output: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallPiece] = field(default_factory=list)
    extra: JSON = field(default_factory=dict)
    """See ReplyPiece; of a whole answer."""
    usage_details: JSON = field(default_factory=dict)
    tokens: list[ScoredToken] = field(default_factory=list)
    finish_reason: str | None = None
    first_token: float | None = None
    """On the timer's clock, when the first piece of the answer left the route."""
    upstream_s: float = 0.0
    """Seconds spent waiting for providers."""
    finished: float | None = None
    error: str | None = None
    inference: Inference | None = None
    """The record, once the exchange has ended."""

    @property
    def overhead_s(self) -> float:
        """Seconds of the gateway itself: the whole time less the time spent waiting for providers."""
        return max(0.0, (self.finished or self.started) - self.started - self.upstream_s)


AsyncChunks: TypeAlias = AsyncGenerator[ReplyPiece, None]
Next: TypeAlias = Callable[[Exchange], AsyncIterator[ReplyPiece]]
Stage: TypeAlias = Callable[[Exchange, Next], AsyncIterator[ReplyPiece]]
