"""Where a stage may stand on a request's way. Each place is a list that the composition root builds once, at start.

A limit, a cache, a guard or a router is one file with a stage for the place that it needs; none knows another.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from bessemer.core.access import Principal
from bessemer.core.conversation import Conversation
from bessemer.core.reply import ReplyPiece
from bessemer.gateway.attempt import Leg
from bessemer.gateway.exchange import Exchange, Next, Stage
from bessemer.gateway.record import Recorder
from bessemer.store.writer import Writer
from bessemer.telemetry.metrics import Metrics

Arrival: TypeAlias = Callable[[Conversation, Principal], Awaitable[Conversation]]
"""Takes what is asked and by whom; returns what is asked from here on, or raises the BessemerError that answers."""
NextAttempt: TypeAlias = Callable[[Exchange, Leg], AsyncIterator[ReplyPiece]]
AttemptStage: TypeAlias = Callable[[Exchange, Leg, NextAttempt], AsyncIterator[ReplyPiece]]


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a gateway, outermost first in each place. Those around something are async generators."""

    before_route: tuple[Arrival, ...] = ()
    """Before the route is looked up: may refuse, rewrite what is asked, or choose another route or model."""
    around_answer: tuple[Stage, ...] = ()
    """Around the answer of the route, with all its steps: sees the route, may answer in its place."""
    around_attempt: tuple[AttemptStage, ...] = ()
    """Around each attempt at one target: sees the model and version, may answer in its place or try again."""

    def around(self, stage: Stage) -> "Stages":
        """Return them with one more stage, within those that are there, around the answer."""
        return Stages(self.before_route, (*self.around_answer, stage), self.around_attempt)


def with_recorder(
    writer: Writer,
    more: Stages = Stages(),
    *,
    metrics: Metrics | None = None,
    timer: Callable[[], float] = time.perf_counter,
) -> Stages:
    """Return stages with the recorder outermost around the answer: whatever another stage does is on record."""
    recorder = Recorder(writer, timer, metrics)
    return Stages(more.before_route, (recorder, *more.around_answer), more.around_attempt)


def chained(stages: tuple[Stage, ...], last: Next) -> Next:
    """Compose stages around the one that makes the answer."""
    following = last
    for stage in reversed(stages):
        following = _around_answer(stage, following)
    return following


def chained_attempts(stages: tuple[AttemptStage, ...], last: NextAttempt) -> NextAttempt:
    """Compose stages around the one that asks the provider."""
    following = last
    for stage in reversed(stages):
        following = _around_attempt(stage, following)
    return following


def _around_answer(stage: Stage, following: Next) -> Next:
    return lambda exchange: stage(exchange, following)


def _around_attempt(stage: AttemptStage, following: NextAttempt) -> NextAttempt:
    return lambda exchange, leg: stage(exchange, leg, following)
