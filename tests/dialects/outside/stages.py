"""A stage of each place: a limit and a guard, a mask, a cache."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import msgspec

from bessemer.core.access import Principal
from bessemer.core.conversation import Conversation
from bessemer.core.errors import InvalidRequest, RateLimited
from bessemer.core.ids import new_id
from bessemer.core.inferences import ModelCall
from bessemer.core.reply import ReplyPiece
from bessemer.gateway.attempt import Leg
from bessemer.gateway.exchange import Exchange, Next
from bessemer.gateway.stages import NextAttempt, Stages


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


STAGES = Stages(before_route=(Limit(100), guard), around_answer=(mask,), around_attempt=(Cache(),))
