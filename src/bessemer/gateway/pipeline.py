"""The gateway: every model call of the system goes through here.

Resolve what is asked, run the stages (built once), and hand out a reply, whole or piece by piece. Decides nothing about
HTTP; knows no provider by name.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, cast

import msgspec

from bessemer.core.access import Action, Principal, Role, project
from bessemer.core.content import input_hash
from bessemer.core.conversation import Conversation, Sampling, message_of, plain
from bessemer.core.errors import BessemerError, Forbidden
from bessemer.core.ids import new_id
from bessemer.core.inferences import INTERNAL_KEY, Inference
from bessemer.core.pieces import is_large
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece
from bessemer.core.types import JSON
from bessemer.gateway.attempt import Attempts
from bessemer.gateway.endpoints import Endpoints
from bessemer.gateway.exchange import AsyncChunks, Exchange
from bessemer.gateway.providers.base import Provider
from bessemer.gateway.record import reply_of
from bessemer.gateway.resolve import resolve
from bessemer.gateway.retries import Retries
from bessemer.gateway.stages import Stages, chained, chained_attempts
from bessemer.gateway.strategy import Strategy
from bessemer.identity.policy import Policy
from bessemer.registry.catalog import Catalog
from bessemer.telemetry.metrics import Metrics

INTERNAL = Principal(key_id=INTERNAL_KEY, name="internal", role=Role.MEMBER)
"""Who asks when Bessemer asks itself for nobody."""


def on_behalf_of(key_id: str | None, project_id: str, models: tuple[str, ...] | None) -> Principal:
    """Return who asks when Bessemer asks itself for a key's job or grade (evaluations, judges), within its limits."""
    return msgspec.structs.replace(INTERNAL, on_behalf_of=key_id, project_id=project_id, models=models)


_REMEMBERED = 10_000
"""Inferences whose asker is in memory."""


class Answered(NamedTuple):
    """A finished answer, its record, and the seconds that the gateway itself added."""

    reply: Reply
    inference: Inference
    overhead_s: float
    cache: Literal["exact", "semantic", "miss"] | None = None
    """Whether it was a kept one; None: its route keeps none."""
    limits: Sequence[tuple[bytes, bytes]] = ()
    """Headers that tell what is left of the limits it counts for."""


class ReplyStream:
    """An answer on its way, whose first piece has arrived. Read `first`, then `rest` to its end, then `reply`.

    Close it when the client goes away: that closes the upstream and records the partial answer as failed, whether or
    not a piece was read.
    """

    def __init__(self, exchange: Exchange, first: ReplyPiece, rest: AsyncChunks) -> None:
        self._exchange = exchange
        self.head = ReplyHead(
            inference_id=exchange.inference_id, created_at=exchange.created_at, model=exchange.asked.model
        )
        self.first = first
        self.rest = rest

    @property
    def cache(self) -> Literal["exact", "semantic", "miss"] | None:
        """Whether it is a kept answer; None: its route keeps none."""
        return self._exchange.cache

    @property
    def limits(self) -> Sequence[tuple[bytes, bytes]]:
        """Headers that tell what is left of the limits it counts for."""
        return tuple(self._exchange.limits.values())

    @property
    def reply(self) -> Reply:
        """The whole answer, once the pieces are exhausted."""
        return reply_of(self._exchange)

    async def aclose(self) -> None:
        """Stop the answer. Does nothing after its end."""
        await self.rest.aclose()


class Gateway:
    """The data plane: name in, recorded answer out."""

    def __init__(
        self,
        catalog: Catalog,
        providers: Mapping[str, Provider],
        stages: Stages,
        policy: Policy,
        *,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._providers = dict(providers)
        self._metrics = metrics
        self._clock = clock
        self._timer = timer
        self._askers: OrderedDict[str, Principal] = OrderedDict()
        """Who asked what, by inference: the latest `_REMEMBERED`."""
        self._before_route = stages.before_route
        endpoints = Endpoints(timer, observe=None if metrics is None else metrics.avoided)
        tries = Retries(Attempts(self._providers, endpoints, clock, timer), endpoints)
        attempt = chained_attempts(stages.around_attempt, tries.run)
        self._run = chained(stages.around_answer, Strategy(attempt, endpoints).answer)

    async def answer(self, conversation: Conversation, principal: Principal, *, origin: str | None = None) -> Answered:
        """Answer in one piece. Raises the BessemerError that is the client's answer.

        `origin`: why Bessemer itself asks; such answers never become training data.
        """
        exchange = await self._open(conversation, principal, origin)
        async for _ in self._run(exchange):
            pass
        assert exchange.inference is not None, "the recorder has run: the pieces are exhausted"
        limits = tuple(exchange.limits.values())
        return Answered(reply_of(exchange), exchange.inference, exchange.overhead_s, exchange.cache, limits)

    async def stream(self, conversation: Conversation, principal: Principal) -> ReplyStream:
        """Start an answer and wait for its first piece, so that an error before it has its real status."""
        exchange = await self._open(conversation, principal, stream=True)
        chunks = cast(AsyncChunks, self._run(exchange))
        first = await anext(chunks)
        return ReplyStream(exchange, first, chunks)

    async def infer(
        self,
        route: str,
        *,
        input: JSON | None = None,
        messages: Sequence[JSON] = (),
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        logprobs: bool = False,
        tags: Mapping[str, str] | None = None,
        origin: str | None = None,
        episode_id: str | None = None,
        principal: Principal = INTERNAL,
    ) -> Inference:
        """Answer a call from inside Bessemer; recorded like any other. Raises BessemerError when there is no answer."""
        conversation = Conversation(
            model=route,
            messages=tuple(message_of(said, f"messages[{index}]") for index, said in enumerate(messages)),
            input=input,
            sampling=Sampling(
                temperature=temperature, top_p=top_p, seed=seed, max_tokens=max_tokens, logprobs=logprobs
            ),
            episode_id=episode_id,
            tags=dict(tags or {}),
        )
        conversation.sampling.check()
        return (await self.answer(conversation, principal, origin=origin)).inference

    def asker(self, inference_id: str) -> Principal | None:
        """Return who asked for one of the latest inferences, before it is in the database; None: longer ago."""
        return self._askers.get(inference_id)

    def _may_split(self, principal: Principal) -> bool:
        return self._policy.decide(principal, Action.SPLIT_WRITE, project(principal.project_id)).allowed

    async def close(self) -> None:
        """Close the providers."""
        for provider in self._providers.values():
            await provider.close()

    async def _open(
        self, asked: Conversation, principal: Principal, origin: str | None = None, *, stream: bool = False
    ) -> Exchange:
        started, created_at = self._timer(), self._clock()
        try:
            for stage in self._before_route:
                asked = await stage(asked, principal)
            if asked.split is not None and not self._may_split(principal):
                raise Forbidden(
                    "bessemer.split decides what is trained on and what is held out: it needs a key with the right "
                    "`contribute`. Leave it out.",
                    param="bessemer.split",
                )
            messages = plain(asked.messages)
            hashed = (
                await asyncio.to_thread(input_hash, asked.input, messages)
                if is_large(messages, asked.input)  # hashing costs time by the text, and must not hold up others
                else input_hash(asked.input, messages)
            )
            catalog = self._catalog.seen_by(principal)
            route = await resolve(catalog, self._policy, asked.model, principal)
        except BessemerError as error:
            if self._metrics is not None:
                self._metrics.error("unresolved", error.error_code or error.type)
            raise
        inference_id = new_id("inf")
        self._askers[inference_id] = principal
        if len(self._askers) > _REMEMBERED:
            self._askers.popitem(last=False)
        return Exchange(
            inference_id=inference_id,
            asked=asked,
            messages=messages,
            input_sha256=hashed,
            stream=stream,
            route=route,
            principal=principal,
            catalog=catalog,
            config_sha256=catalog.config_sha256,
            policy_sha256=self._policy.sha256,
            created_at=created_at,
            started=started,
            origin=origin,
        )
