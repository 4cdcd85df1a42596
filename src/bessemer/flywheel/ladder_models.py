"""Whether a language model pays for what the rungs hand over, by the selection items alone.

A model that joins is compared by the cheapest thresholds that the test would certify on such items, with and without.
One that could be tuned is asked a few of the items that are handed over: what it costs bounds what tuning may save.
Checkpoint and bias of a tuned model were chosen on the selection items, so that its score there flatters it: one that
does not pay here does not pay.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from bessemer.core.datasets import Example
from bessemer.core.ladders import HandedOver, ModelWorth, RungRow
from bessemer.core.routes import Step
from bessemer.core.types import Interval
from bessemer.engine import extra
from bessemer.evals import thresholds
from bessemer.evals.guarantee import certify
from bessemer.evals.outcomes import NEVER, Outcomes, TooManyUnscorable, answered_by
from bessemer.evals.runs import ItemScore, summarise
from bessemer.flywheel.ladder_choice import cascaded, fit_map, outcomes, prices, rule_of, rung_rows
from bessemer.flywheel.ladder_outcome import MODEL, LadderPlan, ScoredSystem
from bessemer.flywheel.services import FlywheelServices
from bessemer.registry.weights import WeightsSettings

FEW: Final = 32
"""Handed-over items that a model which is not tuned yet is asked: enough to see what it costs."""
AT_ONCE: Final = 4
"""Of these, so many at once: the first answers wait until the model is loaded."""
_LEAST: Final = 0.05
"""Share of the route's cost that a model must save: measured seconds are no better known."""
Flags = npt.NDArray[np.bool_]


class _Path(NamedTuple):
    """Selection items by thresholds: who answers, how well, for what."""

    handed: Flags
    """[n]: items that the incumbent answers."""
    answered: dict[str, Flags]
    """[n] for each system that answers any."""
    score: Interval | None
    usd_per_1k: float | None


def tunable(services: FlywheelServices, plan: LadderPlan) -> tuple[str, ...]:
    """Return the local models that could be tuned for the route; none where a language model joins already."""
    if any(one.kind == MODEL for one in plan.joined) or not extra.installed():
        return ()
    return tuple(
        one.name
        for one in services.catalog.models()
        if isinstance(one.settings, WeightsSettings) and Path(one.settings.path).exists()
    )


def joined(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> HandedOver | None:
    """Return what the rungs hand over, and whether each language model among `scored` pays for it.

    Both by the cheapest thresholds that the test would certify on items like those of the selection split; nothing else
    is looked at. The incumbent stands last in `scored` and `versions`. None: no model joins, or these tell nothing.
    """
    models = [place for place, one in enumerate(scored) if one.system.kind == MODEL]
    alone = _certified(plan, *_without(scored, versions, models)) if models else None
    if alone is None:
        return None
    said = []
    for place in models:
        both = _certified(plan, *_without(scored, versions, [other for other in models if other != place]))
        said.append(_worth(plan, scored[place], alone, both))
    return _left(plan, scored[-1], alone, said)


def by_route(
    plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str], steps: Sequence[Step]
) -> tuple[HandedOver, tuple[Example, ...]]:
    """Return what a route of these steps hands over to the incumbent, all where there are none, and some of it."""
    rungs = _Rungs.of(plan, scored, versions)
    asked = {step.targets[0].model: step.threshold for step in steps}
    thresholds = [asked.get(version) for version in rungs.versions[:-1]]
    found = rungs.path(plan, np.array([NEVER if one is None else one for one in thresholds]))
    some = tuple(plan.optimise[place] for place in np.flatnonzero(found.handed)[:FEW])
    return _left(plan, scored[-1], found, ()), some


def _left(plan: LadderPlan, incumbent: ScoredSystem, path: _Path, models: Sequence[ModelWorth]) -> HandedOver:
    return HandedOver(
        n=int(path.handed.sum()),
        share=float(path.handed.mean()),
        quality=_score(plan, _part(incumbent.optimise, path.handed)),
        usd_per_1k=path.usd_per_1k,
        models=tuple(models),
    )


def _least_usd_per_1k(items: Sequence[ItemScore]) -> float | None:
    """Return what the cheapest of some answers would cost 1,000 times: loading and other work only add to seconds."""
    known = [one.answer.cost_usd for one in items if one.answer.cost_usd is not None]
    return min(known) * 1000 if known else None


def untuned(
    plan: LadderPlan, name: str, asked: Sequence[ItemScore], left: HandedOver, incumbent: float | None
) -> ModelWorth:
    """Return what tuning a model may save at most, after it has answered some of what is handed over.

    `incumbent`: USD of asking it 1,000 times.
    """
    failed = next((one.answer.error for one in asked if one.answer.error is not None), None)
    cost = _least_usd_per_1k(asked)
    saves = None if cost is None or incumbent is None else left.share * (incumbent - cost)
    pays: bool | None = None
    if not asked:
        pays, reason = False, "cannot pay: the rungs hand nothing over"
    elif failed is not None:
        reason = f"not known: it did not answer ({failed})"
    elif saves is None:
        reason = f"not known: {name} or the incumbent has no price"
    elif saves < _LEAST * (left.usd_per_1k or 0.0):
        pays, reason = False, f"cannot pay: ${cost:.2g} per 1,000 requests, the incumbent ${incumbent:.2g}"
    else:
        reason = (
            f"may pay once tuned: the rungs hand over {left.share:.0%} of the requests; answering all of these as well "
            f"as the incumbent, it would save ${saves:.2g} of the route's ${left.usd_per_1k:.2g} per 1,000 requests"
        )
    return ModelWorth(
        model=name,
        tuned=False,
        n=len(asked),
        quality=_score(plan, asked),
        usd_per_1k=cost,
        saves_usd_per_1k=saves,
        gain=None,
        pays=pays,
        reason=reason,
    )


def _worth(plan: LadderPlan, one: ScoredSystem, alone: _Path, both: _Path | None) -> ModelWorth:
    name = one.system.target
    part = _part(one.optimise, alone.handed)
    answers = both.answered.get(name) if both is not None else None
    saves = gain = None
    if both is not None and both.usd_per_1k is not None and alone.usd_per_1k is not None:
        saves = alone.usd_per_1k - both.usd_per_1k
    if both is not None and both.score is not None and alone.score is not None:
        gain = both.score.value - alone.score.value
    cheaper = saves is not None and saves >= _LEAST * (alone.usd_per_1k or 0.0)
    better = gain is not None and gain > plan.request.alpha
    pays = answers is not None and (cheaper or better)
    share = 0.0 if answers is None else float(answers.mean())
    costs = _compared(alone, both)
    if pays:
        reason = f"pays: it answers {share:.0%} of the selection items, {costs}"
    elif not part:
        reason = "does not pay: the rungs hand nothing over"
    elif answers is None:
        reason = f"does not pay: the cheapest thresholds do without it ({_said(plan, part, alone)})"
    else:
        reason = f"does not pay: it would answer {share:.0%} of the selection items, {costs}"
    return ModelWorth(
        model=name,
        tuned=True,
        n=sum(item.answer.error is None for item in part),
        quality=_score(plan, part),
        usd_per_1k=usd_per_1k(one.optimise),
        saves_usd_per_1k=saves,
        gain=gain,
        pays=pays,
        reason=reason,
    )


def _compared(alone: _Path, both: _Path | None) -> str:
    if both is None or both.usd_per_1k is None or alone.usd_per_1k is None:
        return "at a cost that is not known"
    return f"the route costs ${both.usd_per_1k:.2g} per 1,000 requests with it and ${alone.usd_per_1k:.2g} without"


def _said(plan: LadderPlan, part: Sequence[ItemScore], alone: _Path) -> str:
    score = _score(plan, part)
    worth = "unscorable" if score is None else f"{plan.request.metric} {score.value:.1%}"
    return f"{worth} on the {int(alone.handed.sum())} selection items that the rungs hand over"


def _without(
    scored: Sequence[ScoredSystem], versions: Sequence[str], dropped: Sequence[int]
) -> tuple[list[ScoredSystem], list[str]]:
    kept = [place for place in range(len(scored)) if place not in dropped]
    return [scored[place] for place in kept], [versions[place] for place in kept]


class _Rungs(NamedTuple):
    """What may stand in a route, cheapest first, the incumbent last, as the selection items tell."""

    systems: list[ScoredSystem]
    versions: list[str]
    rows: list[RungRow]
    items: Outcomes

    @classmethod
    def of(cls, plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> Self:
        rows = rung_rows(plan, scored, versions)
        order = cascaded(scored, rows)
        systems, named = [scored[place] for place in order], [versions[place] for place in order]
        maps = [fit_map(plan, one, version) for one, version in zip(systems[:-1], named, strict=False)]
        return cls(systems, named, [rows[place] for place in order], outcomes(plan, systems, maps, test=False))

    def path(self, plan: LadderPlan, vector: npt.NDArray[np.float64]) -> _Path:
        """Return what happens at a vector of thresholds [R]."""
        who, last = answered_by(self.items.confidence, vector), len(self.systems) - 1
        places = dict(enumerate(self.systems))
        answered = {one.system.target: who == place for place, one in places.items() if (who == place).any()}
        said = [places[place].optimise[item] for item, place in enumerate(who.tolist())]
        asked = [*(bool(t < NEVER) for t in vector), True]
        usd = [row.usd_per_1k if use else 0.0 for use, row in zip(asked, self.rows, strict=True)]
        known = [one for one in usd if one is not None]
        reached = [float((who >= place).mean()) for place in places]
        total = None if len(known) < len(usd) else float(np.dot(known, reached))
        return _Path(who == last, answered, _score(plan, said), total)


def _certified(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> _Path | None:
    """Return the cheapest thresholds that the test would certify if its items were like the selection items.

    These are repeated until they are as many: what merely keeps the bound on them would seldom pass. The incumbent
    alone where nothing would; None where too many could not be scored.
    """
    rungs = _Rungs.of(plan, scored, versions)
    vector = np.full(rungs.items.rungs, NEVER)
    if rungs.items.rungs:
        alike = rungs.items.take(np.resize(np.arange(rungs.items.n), len(plan.calibrate)))
        try:
            path = thresholds.plan(rule_of(plan), rungs.items, prices(rungs.rows), len(plan.calibrate))
            chosen = certify(path, alike, delta=plan.request.delta, seed=plan.request.seed).chosen
        except TooManyUnscorable:
            return None
        if chosen is not None:
            vector = np.array([NEVER if one is None else one for one in chosen.thresholds])
    return rungs.path(plan, vector)


def _part(items: Sequence[ItemScore], chosen: Flags) -> list[ItemScore]:
    return [item for item, use in zip(items, chosen, strict=True) if use]


def _score(plan: LadderPlan, items: Sequence[ItemScore]) -> Interval | None:
    return summarise(items, name="", seed=plan.request.seed, resamples=2000).score if items else None


def usd_per_1k(items: Sequence[ItemScore]) -> float | None:
    """Return what asking a system 1,000 times costs; None where it is not known of all."""
    total = summarise(items, name="", resamples=2).cost_usd if items else None
    return None if total is None else total / len(items) * 1000
