"""Watches the rungs of routes by feedback that comes later on audited requests, and steps back when one drifts.

What is known of a rung is a replay of the log: the feedback on what the audit drew since the route changed last, in the
order of its ids. Memory keeps how far it has read, and reads anew when the log is another one than it saw (feedback was
deleted, or came late from another process). A step back is a change of the route, so that every process hears of it, it
is in the audit trail, rolling back the route undoes it, and a recalibration, which puts the route anew, starts afresh.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import structlog

from bessemer.core.errors import BessemerError, StoreError
from bessemer.core.feedback import Feedback
from bessemer.core.inferences import Inference
from bessemer.core.routes import FallbackAction, FallbackState, Monitor, MonitorReport, Route, RungReport
from bessemer.core.types import as_json
from bessemer.evals.drift import AuditedLoss, LossMonitor, OutcomeMonitor
from bessemer.evals.fallback import ActionRecord, DriftEvent, is_silent, step, undisturbed
from bessemer.feedback.join import learn
from bessemer.feedback.rights import admissible
from bessemer.flywheel.services import FlywheelServices
from bessemer.gateway.cascade import audited
from bessemer.registry.catalog import Catalog
from bessemer.registry.routes import void
from bessemer.store import audit, feedback, inferences, routes
from bessemer.store.database import lock
from bessemer.telemetry.metrics import RungLevel

FELL_BACK = "route.fell_back"
_VERDICT, _DEMONSTRATION = "verdict", "demonstration"
_DAY_S = 86_400.0
log = structlog.get_logger("bessemer.watch")


class _Alarm(NamedTuple):
    event: DriftEvent
    rung: str
    why: str


@dataclass
class _Log:
    """What was read of one route's log, and what follows from it."""

    route: Route
    monitor: Monitor
    since: float
    losses: dict[str, LossMonitor]
    outcomes: dict[str, OutcomeMonitor]
    said: dict[str, list[Feedback]] = field(default_factory=dict)
    """By inference, in order of arrival."""
    ids: list[str] = field(default_factory=list)
    """Of the feedback that was read."""
    last_at: float | None = None

    @staticmethod
    def begun(route: Route, monitor: Monitor, since: float) -> "_Log":
        rungs, outcome = route.rungs, monitor.outcome
        # Each bet may err by its part of delta: a rung has one, and half of it where an outcome is bet on, too.
        delta = monitor.delta / max(1, len(rungs)) / (1 if outcome is None else 2)
        return _Log(
            route,
            monitor,
            since,
            {rung: LossMonitor(monitor.alpha, delta=delta) for rung in rungs},
            {} if outcome is None else {rung: OutcomeMonitor(0, 1, outcome.tolerance, delta=delta) for rung in rungs},
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        return watched_metrics(self.monitor)

    def add(self, row: Feedback, asked: Inference, confidence: float | None) -> None:
        """Count feedback on an audited request, which was answered with a confidence."""
        rows = self.said.setdefault(asked.id, [])
        rows.append(row)
        if asked.version not in self.losses:
            return
        learned = learn([asked], {asked.id: rows}, metric="", as_one=False)[0]
        value = learned.scores.get(self.monitor.metric)
        if self.monitor.metric == _VERDICT and learned.demonstration is not None:
            value = float(learned.demonstration.strip() == (asked.output or "").strip())
        loss = None if value is None else 1.0 - min(max(value, 0.0), 1.0)
        self.losses[asked.version].add(AuditedLoss(asked.id, loss))
        if self.monitor.outcome is not None:
            outcome = learned.scores.get(self.monitor.outcome.metric)
            self.outcomes[asked.version].add(asked.id, confidence, outcome)


def watched_metrics(monitor: Monitor) -> tuple[str, ...]:
    """Return the metrics of the feedback that a monitor reads; a correction is a verdict."""
    own = (monitor.metric, *((_DEMONSTRATION,) if monitor.metric == _VERDICT else ()))
    return own if monitor.outcome is None else (*own, monitor.outcome.metric)


class RouteWatch:
    """The monitors of all routes, of one process. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: dict[tuple[str, str], _Log] = {}

    def concerned(self, services: FlywheelServices, row: Feedback) -> list[str]:
        """Return the routes whose monitor reads such feedback. Does not read the database."""
        if row.inference_id is None:
            return []
        return [
            route.name
            for route in services.catalog.routes()
            if route.monitor is not None
            and row.metric in watched_metrics(route.monitor)
            and audited(row.inference_id, route.monitor.audit_share) is not None
        ]

    def heed(self, services: FlywheelServices, name: str, *, silence: bool = False) -> list[ActionRecord]:
        """Read what is new of a route's log, and step back where that is an alarm; `silence`, too. Blocking.

        Returns what was done. Raises StoreError.
        """
        with self._lock:
            found = self._up_to_date(services, name)
            if found is None:
                return []
            alarms = _alarms(found) or (_silent(services, found) if silence else [])
            return _step_back(services, found, alarms) if alarms else []

    def heed_all(self, services: FlywheelServices, names: Sequence[str]) -> None:
        """Heed routes after feedback; what cannot be done now is done by the worker. Blocking."""
        for name in names:
            try:
                self.heed(services, name)
            except StoreError as error:
                log.warning("route.not_watched", route=name, reason=error.message)

    def sweep(self, services: FlywheelServices) -> None:
        """Heed every route of every project: feedback that came by another way, and the lack of it. Blocking."""
        for project, owned in routes.current(services.database).items():
            mine = services.of_project(project)
            for name in (route.name for route in owned.values() if route.monitor is not None):
                try:
                    self.heed(mine, name, silence=True)
                except BessemerError as error:
                    log.warning("route.not_watched", route=name, reason=error.message)

    def report(self, services: FlywheelServices, name: str) -> MonitorReport:
        """Return what is known of a route's rungs. Raises NotFound, StoreError."""
        route = services.catalog.route(name)
        with self._lock:
            found = self._up_to_date(services, name)
            state = _state(route)
            return MonitorReport(
                route=name,
                since=0.0 if found is None else found.since,
                monitor=route.monitor,
                rungs=() if found is None else tuple(_reported(found, state, rung) for rung in found.losses),
                last_feedback_at=None if found is None else found.last_at,
                guarantee_void=void(route, services.catalog.resolve),
            )

    def _up_to_date(self, services: FlywheelServices, name: str) -> _Log | None:
        database, route = services.database, services.catalog.route(name)
        if route.monitor is None or not route.rungs:
            return None
        since = routes.changed_at(database).get(name, 0.0)
        key = (database.owner, name)
        known = self._logs.get(key)
        if known is None or known.route != route or known.since != since or not _same_log(services, known):
            known = self._logs[key] = _Log.begun(route, route.monitor, since)
        new = feedback.on_audited(database, name, since, known.metrics, after=known.ids[-1] if known.ids else "")
        asked = {one.asked.id: one.asked for one in new}
        by_inference: dict[str, list[Feedback]] = {}
        for one in new:
            by_inference.setdefault(one.asked.id, []).append(one.said)
        counted = admissible(database, services.policy, list(asked.values()), by_inference)
        marked = {row.id: row for rows in counted.values() for row in rows}
        sure = _confidences(services, list(asked)) if known.monitor.outcome is not None else {}
        for one in new:
            known.ids.append(one.said.id)
            known.last_at = max(known.last_at or 0.0, one.said.created_at)
            if one.said.id in marked:
                known.add(marked[one.said.id], one.asked, sure.get(one.asked.id))
        return known


def _same_log(services: FlywheelServices, known: _Log) -> bool:
    name, last = known.route.name, known.ids[-1] if known.ids else ""
    return feedback.ids_on_audited(services.database, name, known.since, known.metrics, until=last) == known.ids


def _confidences(services: FlywheelServices, ids: Sequence[str]) -> dict[str, float]:
    found = inferences.get_many(services.database, ids)
    return {
        name: call.confidence
        for name, one in found.items()
        for call in one.calls
        if call.accepted and call.confidence is not None
    }


def _state(route: Route) -> FallbackState:
    return route.fallback or undisturbed(route.rungs)


def _alarms(found: _Log) -> list[_Alarm]:
    """Return what the bets say of rungs that are still asked."""
    alarms = []
    state = _state(found.route)
    for rung, monitor in found.losses.items():
        outcome = found.outcomes.get(rung)
        if state.incumbent_only or state.rungs[rung].threshold is None:
            continue
        if monitor.alarm is not None:
            loss = "" if monitor.loss is None else f", {monitor.loss:.3g} on average"
            why = f"the loss of {monitor.n} audited answers{loss}, is above {found.monitor.alpha:g}"
            alarms.append(_Alarm(DriftEvent.ALARM, rung, why))
        elif outcome is not None and found.monitor.outcome is not None and outcome.alarm == "below":
            why = f"{found.monitor.outcome.metric} is below what the rung's confidence foretells"
            alarms.append(_Alarm(DriftEvent.ALARM, rung, why))
    return alarms


def _silent(services: FlywheelServices, found: _Log) -> list[_Alarm]:
    """Return the rungs whose audited answers have had no feedback for too long."""
    state, days = _state(found.route), found.monitor.silent_days
    alarms = []
    for rung in found.losses:
        if state.incumbent_only or state.rungs[rung].threshold is None:
            continue
        begun = max(found.since, found.last_at or 0.0)
        first = inferences.first_audited(services.database, found.route.name, rung, begun)
        if first is not None and is_silent(None, first, time.time(), days * _DAY_S):
            alarms.append(_Alarm(DriftEvent.SILENT, rung, f"no feedback on audited answers for {days:g} days"))
    return alarms


def _step_back(services: FlywheelServices, found: _Log, alarms: Sequence[_Alarm]) -> list[ActionRecord]:
    """Put the route with its next state into force, unless another process has changed it meanwhile."""
    catalog, name, done = services.catalog, found.route.name, list[tuple[ActionRecord, str]]()
    with services.database.transaction() as connection:
        lock(connection, "registry")
        if routes.current(services.database).get(services.database.owner, {}).get(name) != found.route:
            catalog.refresh()
            return []
        state, earlier = _state(found.route), _history(services, name)
        for one in alarms:
            state, record = step(state, one.event, one.rung, time.time(), earlier)
            if record is not None:
                done.append((record, one.why))
                audit.append(services.database, audit.SYSTEM, FELL_BACK, name, as_json(record) | {"why": one.why})
        why = "; ".join(f"{one.rung}: {one.why}" for one in alarms)
        catalog.put_route(msgspec.structs.replace(found.route, fallback=state), reason=f"stepped back: {why}")
    for record, why in done:
        log.warning(FELL_BACK, route=name, rung=record.rung, before=record.before, after=record.after, why=why)
    return [record for record, _ in done]


def _history(services: FlywheelServices, name: str) -> list[ActionRecord]:
    """Return the route's earlier steps, oldest first."""
    events = [one for one in audit.find(services.database, action=FELL_BACK) if one.subject == name]
    plain = ({key: value for key, value in one.detail.items() if key != "why"} for one in reversed(events))
    return [msgspec.convert(one, ActionRecord) for one in plain]


def _reported(found: _Log, state: FallbackState, rung: str) -> RungReport:
    monitor = found.losses[rung]
    return RungReport(
        rung=rung,
        action=state.action(rung),
        threshold=None if state.incumbent_only else state.rungs[rung].threshold,
        audited=monitor.n,
        loss=monitor.loss,
        wealth=monitor.wealth,
        alarm_at=1.0 / monitor.delta,
    )


def levels(catalog: Catalog) -> list[RungLevel]:
    """Return how far the rungs of all watched routes have stepped back."""
    order = list(FallbackAction)
    return [
        RungLevel(project, route.name, rung, order.index(state.action(rung)))
        for project, route in catalog.put_routes()
        if route.monitor is not None
        for state in (_state(route),)
        for rung in state.rungs
    ]
