"""Limits: requests, tokens, dollars and requests at once, of each key, project, route or model.

A request takes what it may come to before a model is asked (its input by its length, its output by `max_tokens`), and
gives back what it did not use. A limit that tells models apart counts tries: one that is reached is a try that failed,
so another target may answer. What Bessemer asks itself is not limited.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final, cast

from bessemer.core.errors import RateLimited
from bessemer.core.inferences import ModelCall
from bessemer.core.limits import LimitRule
from bessemer.core.reply import ReplyPiece, Usage
from bessemer.gateway.attempt import Leg
from bessemer.gateway.exchange import AsyncChunks, Exchange, Next
from bessemer.gateway.stages import NextAttempt, Stages
from bessemer.gateway.token_estimates import CHARACTERS, characters_of
from bessemer.store.leases import Grant, Leases

_ANSWER: Final = 500
"""Tokens that an answer is taken to have whose length nobody bounds."""
_KINDS: Final = ("requests", "tokens", "usd")


class UsageLimits:
    """Holds the rules, in two places of a request's way."""

    def __init__(self, rules: Mapping[str, LimitRule], leases: Leases) -> None:
        self._of_requests = [(name, rule) for name, rule in rules.items() if not rule.of_models]
        self._of_models = [(name, rule) for name, rule in rules.items() if rule.of_models]
        self._leases = leases
        self._running: Counter[str] = Counter()

    def around(self, stages: Stages) -> Stages:
        """Return the stages within the limits; those that there is no rule for cost nothing."""
        answer = (self.answer,) if self._of_requests else ()
        attempt = (self.attempt,) if self._of_models else ()
        return Stages(stages.before_route, (*answer, *stages.around_answer), (*attempt, *stages.around_attempt))

    async def answer(self, exchange: Exchange, following: Next) -> AsyncIterator[ReplyPiece]:
        """Hold the limits of a request. Raises RateLimited."""
        async with (
            self._held(exchange, self._of_requests, ""),
            aclosing(cast(AsyncChunks, following(exchange))) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    async def attempt(self, exchange: Exchange, leg: Leg, following: NextAttempt) -> AsyncIterator[ReplyPiece]:
        """Hold the limits of a model. Raises RateLimited."""
        async with (
            self._held(exchange, self._of_models, leg.call.model.name),
            aclosing(cast(AsyncChunks, following(exchange, leg))) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def _held(
        self, exchange: Exchange, rules: Sequence[tuple[str, LimitRule]], model: str
    ) -> AsyncIterator[None]:
        """Take what the request may come to; at the end put what it came to in its place."""
        mine = {
            "key": exchange.principal.key_id,
            "project": exchange.principal.project_id,
            "route": exchange.route.name,
            "model": model,
        }
        rules = [] if exchange.origin is not None else rules
        fitting = [one for one in rules if all(mine[part] == wanted for part, wanted in one[1].only.items())]
        grants: list[tuple[str, Grant]] = []
        running: list[str] = []
        before = len(exchange.calls)
        passed = False
        try:
            for name, rule in fitting:
                place = "|".join((name, *(f"{part}={mine[part]}" for part in rule.per)))
                self._begin(name, rule, place, running)
                for kind in _KINDS:
                    await self._take(exchange, name, rule, kind, place, model, grants)
            passed = True
            yield
        finally:
            self._running.subtract(running)
            for place in running:
                if not self._running[place]:
                    del self._running[place]
            calls = exchange.calls[before:]
            for kind, grant in grants:
                self._leases.settle(grant, _used(kind, grant.amount, calls) if passed else 0.0)

    def _begin(self, name: str, rule: LimitRule, place: str, running: list[str]) -> None:
        if rule.concurrency is None:
            return
        if self._running[place] >= rule.concurrency:
            raise RateLimited(
                f"The limit {name!r} is {rule.concurrency} requests at once: wait for an answer.", retry_after=1
            )
        self._running[place] += 1
        running.append(place)

    async def _take(
        self,
        exchange: Exchange,
        name: str,
        rule: LimitRule,
        kind: str,
        place: str,
        model: str,
        grants: list[tuple[str, Grant]],
    ) -> None:
        limit = getattr(rule, kind)
        if limit is None:
            return
        amount = 1.0 if kind == "requests" else _estimate(exchange, kind, model)
        grant = await self._leases.reserve(f"{place}|{kind}", amount, limit=limit, window=rule.window)
        grants.append((kind, grant))
        if kind != "usd":
            _tell(exchange, kind, limit, grant)
        if not grant.granted:
            error = RateLimited(
                f"The limit {name!r} is {_plain(limit)} {kind} a {rule.window}; this request needs "
                f"{_plain(amount)}, and {_plain(max(0.0, grant.remaining))} are left.",
                code="insufficient_quota" if kind == "usd" else None,
                retry_after=max(1, math.ceil(grant.reset_s)),
            )
            error.headers = tuple(exchange.limits.values())
            raise error


def _estimate(exchange: Exchange, kind: str, model: str) -> float:
    """Return what a request may come to, in tokens or USD; 0 where its price is not known."""
    asked = exchange.asked
    given = math.ceil(characters_of(asked.messages, asked.tools) / CHARACTERS) if asked.messages else 0
    made = asked.sampling.max_tokens or _ANSWER
    if kind == "tokens":
        return given + made
    target = model or exchange.route.steps[-1].targets[-1].model.partition("@")[0].partition(":")[0]
    return exchange.catalog.cost(target, Usage(input_tokens=given, output_tokens=made), None) or 0.0


def _used(kind: str, reserved: float, calls: Sequence[ModelCall]) -> float:
    """Return what a request came to; what is not known of a call that answered is what was reserved."""
    if kind == "requests":
        return reserved
    if kind == "usd":
        return sum(call.cost_usd or 0.0 for call in calls)
    known = sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in calls)
    unknown = any(call.error is None and None in (call.input_tokens, call.output_tokens) for call in calls)
    return max(reserved, known) if unknown else known


def _tell(exchange: Exchange, kind: str, limit: float, grant: Grant) -> None:
    """Keep for the answer's headers what is left of the limit that is nearest to its end, as OpenAI names them."""
    left = max(0, math.floor(grant.remaining))
    known = exchange.limits.get(f"remaining-{kind}")
    if known is not None and int(known[1]) <= left:
        return
    figures = {"limit": _plain(limit), "remaining": str(left), "reset": f"{grant.reset_s:.3f}s"}
    for what, figure in figures.items():
        exchange.limits[f"{what}-{kind}"] = f"x-ratelimit-{what}-{kind}".encode(), figure.encode()


def _plain(figure: float) -> str:
    return f"{figure:.6f}".rstrip("0").rstrip(".")
