"""Tries of one target: again where a try failed before anything was sent, and a second one beside a slow first.

Each try is an attempt with a record of its own. Repeats and second tries are paid out of a budget that requests earn,
so that an upstream which fails everybody is not asked several times as often as before (Envoy's retry budgets; "The
tail at scale", Dean and Barroso 2013, for the second try).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from bessemer.core.errors import BessemerError, ProviderError, RateLimited
from bessemer.core.models import Model
from bessemer.core.reply import ReplyPiece
from bessemer.gateway.attempt import HEDGED, Attempts, Leg
from bessemer.gateway.endpoints import Endpoints, LiveEndpoint
from bessemer.gateway.exchange import AsyncChunks, Exchange

EARNED: Final = 0.2
"""Tries that each request adds to the budget of its model."""
SAVED: Final = 10.0
"""Tries that a budget holds at most, and begins with."""
PAUSE_S: Final = 0.1
"""Bound of the first pause before the same endpoint is asked again; each further one doubles it."""
LONGEST_PAUSE_S: Final = 2.0
"""A Retry-After above it is not waited for: another target may answer, or the client decides."""


@dataclass(slots=True)
class _Budget:
    tries: float = SAVED

    def earn(self) -> None:
        self.tries = min(SAVED, self.tries + EARNED)

    def spend(self) -> bool:
        if self.tries < 1:
            return False
        self.tries -= 1
        return True


class Retries:
    """Runs the tries of one target. Used on one event loop."""

    def __init__(self, attempts: Attempts, endpoints: Endpoints, draws: random.Random | None = None) -> None:
        self._attempts = attempts
        self._endpoints = endpoints
        self._draws = draws or random.Random()  # noqa: S311 - pauses are no secret
        self._budgets: dict[str, _Budget] = {}

    def run(self, exchange: Exchange, leg: Leg) -> AsyncIterator[ReplyPiece]:
        """Return the pieces of the answer that a try gives. Raises the error of the last one."""
        settings = leg.call.model.settings
        if settings.retries or settings.hedge_after is not None:
            return self._tries(exchange, leg)
        return self._attempts.run(exchange, self._at(leg, self._endpoints.choose(leg.call.model, exchange, leg.call)))

    async def _tries(self, exchange: Exchange, leg: Leg) -> AsyncGenerator[ReplyPiece, None]:
        model = leg.call.model
        budget = self._budgets.setdefault(model.name, _Budget())
        budget.earn()
        tried: list[LiveEndpoint] = []
        while True:
            endpoint = self._endpoints.choose(model, exchange, leg.call, tried)
            again, sent = endpoint in tried, False
            tried.append(endpoint)
            try:
                async with aclosing(self._one(exchange, leg, tried, budget)) as pieces:
                    async for piece in pieces:
                        sent = True
                        yield piece
                return
            except BessemerError as error:
                wait = self._pause(error, len(tried), again=again or not self._others(model, tried))
                if sent or wait is None or len(tried) > model.settings.retries or not budget.spend():
                    raise
            # What was drawn once is not drawn again: the first try has its propensity.
            leg = leg._replace(propensity=1.0)
            await asyncio.sleep(wait)

    def _others(self, model: Model, tried: list[LiveEndpoint]) -> bool:
        return any(one not in tried for one in self._endpoints.of(model))

    def _pause(self, error: BessemerError, tries: int, *, again: bool) -> float | None:
        """Return the seconds until the next try, none at another endpoint; None: no other try of this helps."""
        if not (isinstance(error, RateLimited) or (isinstance(error, ProviderError) and error.retryable)):
            return None
        if not again:
            return 0.0
        asked = 0.0 if error.retry_after is None else float(error.retry_after)
        if asked > LONGEST_PAUSE_S:
            return None
        bound = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(tries - 1, 10))
        return max(asked, self._draws.uniform(0, bound))  # full jitter (Brooker 2015)

    def _one(
        self, exchange: Exchange, leg: Leg, tried: list[LiveEndpoint], budget: _Budget
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Ask the endpoint that was tried last, and another one beside it where it is slow."""
        after = leg.call.model.settings.hedge_after
        if after is None:
            return self._attempts.run(exchange, self._at(leg, tried[-1]))
        return self._hedged(exchange, leg, after, tried, budget)

    async def _hedged(
        self, exchange: Exchange, leg: Leg, after: float, tried: list[LiveEndpoint], budget: _Budget
    ) -> AsyncGenerator[ReplyPiece, None]:
        """Yield the answer that begins first: of this try, or of a second one that begins `after` seconds later."""
        first = self._attempts.run(exchange, self._at(leg, tried[-1]))
        running: dict[asyncio.Task[ReplyPiece | None], AsyncChunks] = {_begun(first): first}
        winner: AsyncChunks | None = None
        try:
            done, _ = await asyncio.wait(running, timeout=after)
            if not done and budget.spend():
                endpoint = self._endpoints.choose(leg.call.model, exchange, leg.call, tried)
                tried.append(endpoint)
                beside = self._attempts.run(exchange, self._at(leg, endpoint)._replace(propensity=1.0))
                running[_begun(beside)] = beside
            while winner is None:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    pieces = running.pop(task)
                    if task.exception() is None:
                        winner = pieces
                        piece = task.result()
                        break
                    if not running:
                        task.result()  # raises the error of the last
            await _end(running, HEDGED)
            while piece is not None:
                yield piece
                piece = await anext(winner, None)
        finally:
            await _end(running)
            if winner is not None:
                await winner.aclose()

    def _at(self, leg: Leg, endpoint: LiveEndpoint) -> Leg:
        if endpoint.model is leg.call.model:
            return leg
        return leg._replace(call=msgspec.structs.replace(leg.call, model=endpoint.model), endpoint=endpoint)


def _begun(pieces: AsyncChunks) -> "asyncio.Task[ReplyPiece | None]":
    return asyncio.create_task(cast("asyncio.Task[ReplyPiece | None]", anext(pieces, None)))  # type: ignore[arg-type]


async def _end(running: "dict[asyncio.Task[ReplyPiece | None], AsyncChunks]", why: str | None = None) -> None:
    """Stop what is under way, so that it is on record before the answer goes on."""
    for task in running:
        task.cancel(why)
    await asyncio.gather(*running, return_exceptions=True)
    for pieces in running.values():
        await pieces.aclose()
    running.clear()
