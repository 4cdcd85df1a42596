"""What is answered, whatever wire format it goes out in: pieces as they come, and the whole at the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import msgspec

from bessemer.core.conversation import ToolCall
from bessemer.core.inferences import TokenLogprob
from bessemer.core.types import JSON, Frozen

_MOST_TOKENS: Final = 2**53


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
    details: JSON = msgspec.field(default_factory=dict)
    """Of the upstream's own account (reasoning, audio, predicted tokens), as it wrote them."""
    seconds: float | None = None
    """Upper bound of the seconds this call occupied the model, where the provider knows it."""
    service_tier: str | None = None
    """In which the upstream says it answered: `batch` and `flex` cost less."""
    stated_usd: float | None = None
    """What the upstream says it costs: kept, never charged."""

    def part(self, name: str) -> Callable[[str], int]:
        """Return how to look up a number of tokens in a part of `details`; 0 where it says none."""
        of = self.details.get(name)

        def look(kind: str) -> int:
            number = of.get(kind) if isinstance(of, dict) else None
            if not isinstance(number, int | float) or isinstance(number, bool):
                return 0
            return int(number) if 0 <= number <= _MOST_TOKENS else 0

        return look

    def merged(self, later: "Usage") -> "Usage":
        """Return what is known after another account of the same call: the later one, where it says something."""
        return Usage(
            input_tokens=self.input_tokens if later.input_tokens is None else later.input_tokens,
            output_tokens=self.output_tokens if later.output_tokens is None else later.output_tokens,
            cached_tokens=self.cached_tokens if later.cached_tokens is None else later.cached_tokens,
            details=later.details or self.details,
            seconds=self.seconds if later.seconds is None else later.seconds,
            service_tier=later.service_tier or self.service_tier,
            stated_usd=self.stated_usd if later.stated_usd is None else later.stated_usd,
        )


NO_USAGE: Final = Usage()


class ToolCallPiece(Frozen, frozen=True):
    """What a piece of the answer adds to one of its tool calls; id and name come whole, with the call's first piece."""

    index: int
    """Of the call among the answer's calls, from 0."""
    id: str = ""
    name: str = ""
    arguments: str = ""
    type: Literal["function", "custom"] = "function"


Vector: TypeAlias = Sequence[float] | str
"""Of a text: numbers, or float32 in little-endian order as base64, which is how most clients of OpenAI ask for it."""


class ReplyPiece(Frozen, frozen=True):
    """A piece of the answer; the last one carries finish_reason and, where known, usage and choices."""

    text: str = ""
    reasoning: str = ""
    """What a model thinks before it answers."""
    refusal: str = ""
    """What a model says in place of an answer."""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    vectors: tuple[Vector, ...] = ()
    """Of texts, where these were asked for."""
    extra: JSON = msgspec.field(default_factory=dict)
    """What the upstream's dialect says beside and no field stands for: for clients of the same dialect."""
    tokens: tuple[ScoredToken, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    choice_logprobs: dict[str, float] | None = None
    """Normalised (and biased) log-probability per choice."""
    forced: tuple[bool, ...] = ()
    """On the last piece of a constrained stream: per token of the whole answer, whether a grammar forced it."""


@dataclass(slots=True)
class GatheredReply:
    """What the pieces of an answer have said so far."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallPiece] = field(default_factory=list)
    vectors: tuple[Vector, ...] = ()
    extra: JSON = field(default_factory=dict)
    tokens: list[ScoredToken] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage = NO_USAGE

    def add(self, piece: ReplyPiece) -> None:
        """Add the next piece. Most have a text and nothing else."""
        if piece.text:
            self.text.append(piece.text)
        if piece.reasoning:
            self.reasoning.append(piece.reasoning)
        if piece.refusal:
            self.refusal.append(piece.refusal)
        if piece.tool_calls:
            self.tool_calls.extend(piece.tool_calls)
        if piece.vectors:
            self.vectors = piece.vectors
        if piece.extra:
            self.extra.update(piece.extra)
        if piece.tokens:
            self.tokens.extend(piece.tokens)
        if piece.usage is not None:
            self.usage = self.usage.merged(piece.usage)
        self.finish_reason = piece.finish_reason or self.finish_reason


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
    tool_calls: tuple[ToolCall, ...] = ()
    vectors: tuple[Vector, ...] = ()
    extra: JSON = msgspec.field(default_factory=dict)
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
    feedback_wanted: bool = False
    """The audit drew it."""
    guarantee: Literal["holds", "void"] | None = None
    """Whether what the route promises of its answers holds; None: it promises nothing."""


def calls_of(pieces: Sequence[ToolCallPiece]) -> tuple[ToolCall, ...]:
    """Return the tool calls that the pieces of an answer add up to, in the order of their indices."""
    by_index: dict[int, list[ToolCallPiece]] = {}
    for piece in pieces:
        by_index.setdefault(piece.index, []).append(piece)
    return tuple(
        ToolCall(
            id="".join(one.id for one in parts),
            name="".join(one.name for one in parts),
            arguments="".join(one.arguments for one in parts),
            type=parts[0].type,
        )
        for _, parts in sorted(by_index.items())
    )
