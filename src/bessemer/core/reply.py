"""What is answered, whatever wire format it goes out in: pieces as they come, and the whole at the end."""

from bessemer.core.inferences import TokenLogprob
from bessemer.core.types import Frozen


class ScoredToken(Frozen, frozen=True):
    """A generated token with its log-probability and the best alternatives there, when they were asked for."""

    token: TokenLogprob
    alternatives: tuple[TokenLogprob, ...] = ()
    terminator: bool = False
    """Ends the answer and is not part of its text: recorded, not shown."""


class Usage(Frozen, frozen=True):
    """Token counts; None is unknown."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the input's."""
    seconds: float | None = None
    """Upper bound of the seconds this call occupied the model, where the provider knows it."""


class ReplyPiece(Frozen, frozen=True):
    """A piece of the answer; the last one carries finish_reason and, where known, usage and choices."""

    text: str = ""
    reasoning: str = ""
    """What a model thinks before it answers."""
    refusal: str = ""
    """What a model says in place of an answer."""
    tokens: tuple[ScoredToken, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    choice_logprobs: dict[str, float] | None = None
    """Normalised (and biased) log-probability per choice."""
    forced: tuple[bool, ...] = ()
    """On the last piece of a constrained stream: per token of the whole answer, whether a grammar forced it."""


class ReplyHead(Frozen, frozen=True):
    """What is known of an answer before its first piece."""

    inference_id: str
    created_at: float
    """Unix seconds."""
    model: str
    """As the client wrote it."""


class Reply(ReplyHead, frozen=True):
    """A whole answer, with what gave it."""

    text: str
    finish_reason: str
    reasoning: str = ""
    refusal: str = ""
    tokens: tuple[ScoredToken, ...] = ()
    usage: Usage | None = None
    """Of the call that was returned; None: nobody answered."""
    version: str | None = None
    provider: str | None = None
    """`recorded` when a recorded answer was served."""
    cost_usd: float | None = None
    """Of all calls."""
    escalated: bool = False
    """A step after the first gave it."""
