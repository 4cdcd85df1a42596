"""A dialect, a provider and a stage of each place, written outside the package, and a server that has them.

    python -m tests.dialects.outside DATA_FOLDER CONFIG

prints the server's URL.
"""

import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec

from bessemer.core.conversation import Conversation, Message, Part, Tool
from bessemer.core.decoding import decode
from bessemer.core.errors import BessemerError, InvalidRequest, RateLimited
from bessemer.core.ids import new_id
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece, Usage
from bessemer.core.settings import Settings
from bessemer.core.types import JSON, Capability, ModelCall, Principal, ProviderSettings
from bessemer.dialects import DIALECTS
from bessemer.gateway.attempt import Leg
from bessemer.gateway.exchange import Exchange, Next
from bessemer.gateway.providers import PROVIDERS
from bessemer.gateway.providers.base import Provider, ProviderCall, ProviderContext, ProviderKind
from bessemer.gateway.stages import NextAttempt, Stages
from bessemer.server.composition import Composition
from bessemer.server.serve import serve

# -- a dialect --------------------------------------------------------------------------------------------------------


class PlainAsk(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST /plain."""

    of: str
    say: list[str]
    tools: list[str] = []
    picture: str | None = None
    mood: str | None = None
    live: bool = False


class PlainAnswer(msgspec.Struct):
    """Its answer."""

    said: str
    by: str | None
    words: int | None


@dataclass(frozen=True)
class PlainRequest:
    """A request that has been read."""

    conversations: Sequence[Conversation]
    stream: bool

    def whole(self, replies: Sequence[Reply]) -> PlainAnswer:
        [reply] = replies
        return PlainAnswer(reply.text, reply.version, None if reply.usage is None else reply.usage.output_tokens)

    def events(self) -> "PlainRequest":
        return self

    def opening(self, _index: int, head: ReplyHead) -> bytes:
        return b"event: begin\ndata: %s\n\n" % head.model.encode()

    def piece(self, _index: int, piece: ReplyPiece) -> bytes:
        return b"data: %s\n\n" % piece.text.encode() if piece.text else b""

    def closing(self, _index: int, reply: Reply) -> bytes:
        return b"event: end\ndata: %s\n\n" % reply.finish_reason.encode()

    def end(self) -> bytes:
        return b""

    def failure(self, error: BessemerError) -> bytes:
        return b"event: broken\ndata: %s\n\n" % error.message.encode()


class Plain:
    """A wire format of lines."""

    name = "plain"
    path = "/plain"
    key_header = "x-plain-key"
    takes = PlainAsk
    gives = PlainAnswer

    def parse(self, body: bytes) -> PlainRequest:
        asked = decode(PlainAsk, body)
        lines = [Message(role="user", content=line) for line in asked.say]
        if asked.picture is not None:
            lines.append(Message(role="user", content=(Part(sent={"type": "picture", "of": asked.picture}),)))
        conversation = Conversation(
            model=asked.of,
            messages=tuple(lines),
            tools=tuple(Tool(name=name) for name in asked.tools),
            dialect=self.name,
            extra={} if asked.mood is None else {"mood": asked.mood},
        )
        return PlainRequest([conversation], asked.live)

    def error(self, error: BessemerError) -> JSON:
        return {"sorry": error.body()["error"]["message"], "about": error.param}


# -- a provider -------------------------------------------------------------------------------------------------------


class EchoSettings(ProviderSettings, frozen=True):
    """What a model of the provider says in the configuration file."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.COMPLETE})
    dialect: ClassVar[str | None] = Plain.name
    greeting: str
    shout: bool = False


class Echo:
    """Answers with what was said."""

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        settings = call.model.settings_as(EchoSettings)
        words = [settings.greeting, *(message.text or "(a picture)" for message in call.messages)]
        words += [f"{name}={value}" for name, value in call.extra.items()]
        for word in words:
            yield ReplyPiece(text=(word.upper() if settings.shout else word) + " ")
        yield ReplyPiece(finish_reason="stop", usage=Usage(input_tokens=len(call.messages), output_tokens=len(words)))

    async def close(self) -> None:
        pass


def _open(_context: ProviderContext) -> Provider:
    return Echo()


ECHO = ProviderKind("echo", EchoSettings, _open)

# -- a stage of each place --------------------------------------------------------------------------------------------


class Limit:
    """Before the route is resolved: so many requests a key."""

    def __init__(self, most: int) -> None:
        self._left: Counter[str] = Counter()
        self._most = most

    async def __call__(self, asked: Conversation, who: Principal) -> Conversation:
        self._left[who.key_id] += 1
        if self._left[who.key_id] > self._most:
            raise RateLimited("You have asked enough.", retry_after=60)
        return asked


async def guard(asked: Conversation, _who: Principal) -> Conversation:
    """Before the route is resolved: refuse a word, and lead a name elsewhere."""
    if any("password" in message.text for message in asked.messages):
        raise InvalidRequest("Do not tell passwords.", param="say")
    return msgspec.structs.replace(asked, model="loud") if asked.model == "louder" else asked


async def mask(exchange: Exchange, following: Next) -> AsyncIterator[ReplyPiece]:
    """Around the answer: what may not be said."""
    async with aclosing(cast("AsyncGenerator[ReplyPiece, None]", following(exchange))) as pieces:
        async for piece in pieces:
            yield msgspec.structs.replace(piece, text=piece.text.replace("secret", "***"))


class Cache:
    """Around an attempt: an answer of the same version to the same messages is given again, free of charge."""

    def __init__(self) -> None:
        self._kept: dict[Any, tuple[list[ReplyPiece], ModelCall]] = {}

    async def __call__(self, exchange: Exchange, leg: Leg, following: NextAttempt) -> AsyncIterator[ReplyPiece]:
        key = (exchange.principal.project_id, leg.call.version.id, msgspec.json.encode(leg.call))
        if key in self._kept:
            pieces, call = self._kept[key]
            again = {"id": new_id("call"), "inference_id": exchange.inference_id, "cost_usd": 0.0}
            exchange.calls.append(msgspec.structs.replace(call, **again))
            for piece in pieces:
                yield piece
            return
        seen = []
        async with aclosing(cast("AsyncGenerator[ReplyPiece, None]", following(exchange, leg))) as chunks:
            async for piece in chunks:
                seen.append(piece)
                yield piece
        self._kept[key] = (seen, exchange.calls[-1])


COMPOSITION = Composition(
    dialects=(*DIALECTS, Plain()),
    providers=(*PROVIDERS, ECHO),
    stages=Stages(before_route=(Limit(100), guard), around_answer=(mask,), around_attempt=(Cache(),)),
)


def main() -> None:
    settings = Settings(data=Path(sys.argv[1]), config=Path(sys.argv[2]), port=0)
    serve(settings, lambda started: print(started.url, flush=True), worker=False, composition=COMPOSITION)  # noqa: T201


if __name__ == "__main__":
    main()
