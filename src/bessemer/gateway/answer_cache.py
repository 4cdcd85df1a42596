"""The cache: a question that was asked before, in every respect that decides its answer, is answered from memory.

Off for a route until its `cache` says otherwise. The key is all that the client asked but a short list of fields that
decide nothing, the project (or the key, or the user), and the immutable versions and prompts behind the route: a
promotion is a miss. Only whole answers of a route's own steps are kept, never a fallback's, a broken or a cut one.
Requests that ask the same while one is under way wait for its answer. What only means the same: see `alike`.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from bessemer.core.conversation import Conversation
from bessemer.core.errors import NotFound
from bessemer.core.ids import new_id
from bessemer.core.inferences import ModelCall
from bessemer.core.reply import GatheredReply, ReplyPiece, Usage
from bessemer.core.routes import CachePolicy, Route, SemanticPolicy
from bessemer.core.types import JSON
from bessemer.gateway.alike import AlikeQuestions, AskedText
from bessemer.gateway.cascade import audited
from bessemer.gateway.exchange import AsyncChunks, Exchange, Next
from bessemer.gateway.false_hits import FalseHits
from bessemer.gateway.record import usage_of
from bessemer.registry.catalog import Catalog
from bessemer.telemetry.metrics import Metrics

CACHE: Final = "cache"
"""The provider of an answer from the cache, in its record and to its client."""
IGNORED: Final = frozenset(
    {"user", "metadata", "store", "stream", "stream_options", "safety_identifier", "prompt_cache_key"}
)
"""Fields of requests that decide nothing of an answer; any other that differs is another question."""
_WHOLE: Final = frozenset({"stop", "tool_calls", "function_call"})
_LARGEST: Final = 1 << 20
"""Bytes of an answer that is kept."""
_TOLD: Final = 10_000
"""Inferences of which it is known that their answer came from the cache, or went into it."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class _Saved(msgspec.Struct, frozen=True):
    """An answer that is kept."""

    piece: ReplyPiece
    """All of it."""
    call: ModelCall
    """That gave it, without its text."""
    expires: float
    made: float
    cost_usd: float | None
    project_id: str
    size: int


@dataclass(slots=True)
class _Fingerprint:
    """What stands behind a route, as bytes, and by what it was made."""

    route: Route
    versions: tuple[str, ...]
    config_sha256: str
    digest: bytes


class _Near(NamedTuple):
    """A kept answer to a question that may mean the same."""

    key: bytes
    saved: _Saved
    policy: SemanticPolicy
    found: FalseHits
    given: bool

    def check(self, alike: AlikeQuestions, exchange: Exchange) -> None:
        """Hold it against the model's own answer."""
        kept, anew = self.saved.piece, _piece(exchange.said, None)
        if kept.tool_calls or anew.tool_calls:  # their ids differ, what they call must not
            called = [json.dumps([[call.name, call.arguments] for call in piece.tool_calls]) for piece in (kept, anew)]
            exact = msgspec.structs.replace(self.policy, same_answer=None)
            alike.check(exchange.route.name, self.found, exact, *called)
            return
        said = (piece.text + piece.refusal for piece in (kept, anew))
        alike.check(exchange.route.name, self.found, self.policy, *said)


@dataclass(slots=True)
class AnswerCache:
    """The cache of one process, a stage around the answer. Its answers are used on one event loop."""

    max_bytes: int
    alike: AlikeQuestions
    clock: Callable[[], float] = time.time
    metrics: Metrics | None = None
    _saved: OrderedDict[bytes, _Saved] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _under_way: dict[bytes, asyncio.Future[None]] = field(default_factory=dict)
    _told: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _behind: dict[tuple[str, str], _Fingerprint] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def __call__(self, exchange: Exchange, following: Next) -> AsyncIterator[ReplyPiece]:
        """Answer from the cache, or from what follows and keep it."""
        policy, wish = exchange.route.cache, exchange.asked.cache
        if policy is None or exchange.origin is not None or wish == "off":
            async with aclosing(cast(AsyncChunks, following(exchange))) as pieces:
                async for piece in pieces:
                    yield piece
            return
        key = self._key(exchange, policy)
        exchange.cache = "miss"
        if wish != "refresh" and (saved := await self._found(exchange, key)) is not None:
            self._answer(exchange, key, saved, "exact")
            yield saved.piece
            return
        mine: asyncio.Future[None] | None = None
        if key not in self._under_way:
            mine = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            question = await self._question(exchange, policy)
            near = None if wish == "refresh" else self._near(exchange, question, policy.semantic)
            if near is not None and near.given:
                self._answer(exchange, near.key, near.saved, "semantic")
                yield near.saved.piece
                return
            self._count(exchange, "miss")
            async with aclosing(cast(AsyncChunks, following(exchange))) as pieces:
                async for piece in pieces:
                    yield piece
            if self._keep(exchange, key, policy):
                if question is not None:
                    self.alike.remember(question, key)
                if near is not None:
                    near.check(self.alike, exchange)
        finally:
            if mine is not None:
                del self._under_way[key]
                mine.set_result(None)

    async def _found(self, exchange: Exchange, key: bytes) -> _Saved | None:
        """Return the answer, also one that another request is about to get; None: this one has to ask.

        Where that one fails or its client leaves, the first of those that waited asks, and the others wait for it;
        after two such failures each asks for itself.
        """
        for _ in range(3):
            if (saved := self._read(key)) is not None:
                return saved
            if (other := self._under_way.get(key)) is None:
                return None
            begun = time.perf_counter()
            await asyncio.shield(other)
            exchange.upstream_s += time.perf_counter() - begun
        return self._read(key)

    def _read(self, key: bytes) -> _Saved | None:
        with self._lock:
            saved = self._saved.get(key)
            if saved is None:
                return None
            if saved.expires <= self.clock():
                self._drop(key)
                return None
            self._saved.move_to_end(key)
            return saved

    async def _question(self, exchange: Exchange, policy: CachePolicy) -> AskedText | None:
        """Return what may be compared with other questions: the last message, where it is a user's plain text."""
        asked, messages = exchange.asked, exchange.messages
        if policy.semantic is None or asked.input is not None or asked.embed or not messages:
            return None
        last = messages[-1]
        if last.get("role") != "user" or not isinstance(last.get("content"), str):
            return None
        rest = (*messages[:-1], {**last, "content": None})
        return await self.alike.read(self._key(exchange, policy, rest), last["content"])

    def _near(self, exchange: Exchange, question: AskedText | None, policy: SemanticPolicy | None) -> "_Near | None":
        """Return a kept answer to a question that may mean the same."""
        if question is None or policy is None:
            return None
        key = self.alike.nearest(question, policy.similarity, lambda kept: self._read(kept) is not None)
        if key is None or (saved := self._read(key)) is None:
            return None
        whose = exchange.principal.project_id.encode()  # what is asked elsewhere shows nothing of what is asked here
        found = self.alike.evidence(self._stands_behind(exchange) + whose, policy)
        drawn = audited(exchange.inference_id, policy.check_share, "cache") is not None
        return _Near(key, saved, policy, found, given=found.proven and not drawn)

    def _answer(self, exchange: Exchange, key: bytes, saved: _Saved, how: Literal["exact", "semantic"]) -> None:
        """Write down that this inference was answered from the cache, for nothing."""
        exchange.cache = how
        exchange.saved_usd = saved.cost_usd
        self._tell(exchange.inference_id, key)
        now = self.clock()
        exchange.answer = msgspec.structs.replace(
            saved.call,
            id=new_id("call"),
            inference_id=exchange.inference_id,
            output=saved.piece.text,
            provider=CACHE,
            input_tokens=0,
            output_tokens=0,
            cached_tokens=None,
            cost_usd=0.0,
            created_at=now,
            latency_s=0.0,
            ttft_s=0.0,
            propensity=1.0,
        )
        exchange.calls.append(exchange.answer)
        self._count(exchange, "hit")

    def _keep(self, exchange: Exchange, key: bytes, policy: CachePolicy) -> bool:
        """Keep the answer, where it is a whole one of the route's own steps, and tell whether it is."""
        answer, said = exchange.answer, exchange.said
        if answer is None or answer.step >= len(exchange.route.steps) or said.finish_reason not in _WHOLE:
            return False
        now = self.clock()
        piece = _piece(said, usage_of(exchange))
        size = len(msgspec.json.encode(piece))
        if size > _LARGEST:
            return False
        costs = [call.cost_usd for call in exchange.calls]
        saved = _Saved(
            piece=piece,
            call=msgspec.structs.replace(answer, output=None, token_logprobs=(), error=None),
            expires=now + policy.ttl_s,
            made=now,
            cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
            project_id=exchange.principal.project_id,
            size=size,
        )
        with self._lock:
            self._drop(key)
            self._saved[key] = saved
            self._bytes += size
            while self._bytes > self.max_bytes:
                self._drop(next(iter(self._saved)))
        self._tell(exchange.inference_id, key)
        return True

    def _drop(self, key: bytes) -> None:
        if (saved := self._saved.pop(key, None)) is not None:
            self._bytes -= saved.size

    def _tell(self, inference_id: str, key: bytes) -> None:
        with self._lock:
            self._told[inference_id] = key
            if len(self._told) > _TOLD:
                self._told.popitem(last=False)

    def _count(self, exchange: Exchange, outcome: str) -> None:
        if self.metrics is not None:
            self.metrics.cache(exchange.route.name, outcome, exchange.saved_usd)

    def evict(self, inference_id: str) -> None:
        """Forget an answer that was found wrong, by an inference that gave it or got it. Any thread."""
        with self._lock:
            if (key := self._told.get(inference_id)) is not None:
                self._drop(key)

    def clear(self) -> None:
        """Forget everything: something was erased, and may stand in an answer. Any thread."""
        with self._lock:
            self._saved.clear()
            self._told.clear()
            self._bytes = 0
        self.alike.clear()

    # -- the key ------------------------------------------------------------------------------------------------------

    def _key(self, exchange: Exchange, policy: CachePolicy, messages: Sequence[JSON] | None = None) -> bytes:
        """Return a digest of all that decides the answer; of other messages than those asked, where they are given."""
        principal, asked = exchange.principal, exchange.asked
        who = {"project": None, "key": principal.key_id, "user": asked.user}[policy.per]
        digest = hashlib.sha256(self._stands_behind(exchange))
        if who is None and policy.per == "user":
            who = f"key {principal.key_id}"  # who names no user shares with nobody else
        digest.update(_encode([principal.project_id, policy.per, who]))
        digest.update(_encode([exchange.messages if messages is None else messages, *_asked(asked)]))
        return digest.digest()

    def _stands_behind(self, exchange: Exchange) -> bytes:
        """Return a digest of the route's steps, versions and prompts."""
        route, catalog = exchange.route, exchange.catalog
        targets = [target for step in route.steps for target in step.targets]
        versions = tuple(_version(catalog, target.model) for target in targets)
        place = (exchange.principal.project_id, route.name)
        known = self._behind.get(place)
        if (
            known is not None
            and known.route is route
            and known.versions == versions
            and known.config_sha256 == exchange.config_sha256
        ):
            return known.digest
        prompts = [catalog.prompt(target.prompt) for target in targets if target.prompt is not None]
        written = _encode([route.name, route.steps, route.fallback, versions, prompts, exchange.config_sha256])
        made = _Fingerprint(route, versions, exchange.config_sha256, hashlib.sha256(written).digest())
        self._behind[place] = made
        return made.digest


def _version(catalog: Catalog, target: str) -> str:
    try:
        return catalog.resolve(target).version.id
    except NotFound:
        return target  # the route will say so itself


def _asked(asked: Conversation) -> list[Any]:
    """Return what is asked beside the messages, as the client wrote it."""
    spelled = {name: value for name, value in asked.spelling.items() if name not in IGNORED}
    extra = {name: value for name, value in asked.extra.items() if name not in IGNORED}
    return [
        asked.input,
        asked.tools,
        asked.tool_choice,
        asked.embed,
        # Its keys are numbers, which JSON has none of.
        msgspec.structs.replace(asked.sampling, logit_bias=None),
        sorted((asked.sampling.logit_bias or {}).items()),
        asked.rules,
        asked.dialect,
        asked.place,
        spelled,
        extra,
    ]


def _piece(said: GatheredReply, usage: Usage | None) -> ReplyPiece:
    """Return the whole answer as one piece."""
    return ReplyPiece(
        text="".join(said.text),
        reasoning="".join(said.reasoning),
        refusal="".join(said.refusal),
        tool_calls=tuple(said.tool_calls),
        vectors=said.vectors,
        extra=dict(said.extra),
        tokens=tuple(said.tokens),
        finish_reason=said.finish_reason,
        usage=usage,
    )
