"""What a route does when a rung drifts: a ladder of actions, each reversible, each in the audit.

raise its threshold one grid step → ask it no more → ask the incumbent alone. An alarm takes one step down; a shadow
that is shown to keep its promise again (`recovered`) takes one step up; a recalibration ends all. A feed of verdicts
that fell silent is an alarm too: what nobody looks at is not known to be well. Pure: state and event in, state and
record out.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from bessemer.core.routes import FallbackAction, FallbackState, RungState
from bessemer.core.types import Frozen

SILENT_AFTER = 7 * 86_400.0
"""Seconds without a verdict on audited requests."""


class DriftEvent(StrEnum):
    """What happened."""

    ALARM = "alarm"
    SILENT = "silent"
    RECOVERED = "recovered"
    RECALIBRATED = "recalibrated"


class ActionRecord(Frozen, frozen=True):
    """One step, for the audit."""

    at: float
    """Seconds since 1970."""
    event: DriftEvent
    rung: str
    before: FallbackAction
    after: FallbackAction
    since: float | None
    """Seconds since the alarm that began it; of a recovery: the time that it took."""


def step(
    state: FallbackState, event: DriftEvent, rung: str, at: float, history: Sequence[ActionRecord] = ()
) -> tuple[FallbackState, ActionRecord | None]:
    """Return the next state and its record; None: nothing changes. KeyError for a rung that the route does not have.

    When every rung is off and one more alarm comes, the incumbent answers alone; with the last rung off it does anyway.
    """
    before = state.action(rung)
    after = _next(state, event, rung)
    if after == state:
        return state, None
    began = next((one.at for one in reversed(history) if one.rung == rung and one.before is FallbackAction.NONE), None)
    record = ActionRecord(
        at=at,
        event=event,
        rung=rung,
        before=before,
        after=after.action(rung),
        since=None if began is None else at - began,
    )
    return after, record


def _next(state: FallbackState, event: DriftEvent, rung: str) -> FallbackState:
    own = state.rungs[rung]
    if event is DriftEvent.RECALIBRATED:
        return _with(state, rung, 0, incumbent_only=False)
    if event is DriftEvent.RECOVERED:
        if state.incumbent_only:
            return msgspec.structs.replace(state, incumbent_only=False)
        return _with(state, rung, max(0, own.step - 1), incumbent_only=False)
    if own.threshold is None or state.incumbent_only:
        return msgspec.structs.replace(state, incumbent_only=True)
    return _with(state, rung, own.step + 1, incumbent_only=False)


def _with(state: FallbackState, rung: str, at: int, *, incumbent_only: bool) -> FallbackState:
    moved = msgspec.structs.replace(state.rungs[rung], step=at)
    return FallbackState({**state.rungs, rung: moved}, incumbent_only)


def is_silent(last_verdict_at: float | None, since: float, now: float, after: float = SILENT_AFTER) -> bool:
    """Say whether audited requests have had no verdict for so long; `since`: when the first of them was answered."""
    return now - max(since, last_verdict_at or since) > after


def undisturbed(rungs: Mapping[str, float]) -> FallbackState:
    """Return the state of a route that no alarm has touched; `rungs`: their certified thresholds.

    The one stricter threshold accepts half the doubt: of 0.9 it is 0.95.
    """
    return FallbackState({name: RungState((at, 1.0 - (1.0 - at) / 2)) for name, at in rungs.items()})
