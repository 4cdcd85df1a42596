"""A wire format of lines: `POST /plain`."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bessemer.core.conversation import Conversation, Message, Part, Tool
from bessemer.core.decoding import decode
from bessemer.core.errors import BessemerError
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece
from bessemer.core.types import JSON


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

    def events(self) -> "PlainRequest | None":
        return self if self.stream else None

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
    streams = True
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
