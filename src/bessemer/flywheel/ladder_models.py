"""Whether a language model pays for what the rungs hand over, by the selection items alone.

A model that joins is compared by the cheapest thresholds that keep the bound on these items, with it and without it.
One that could be tuned is asked a few of the items that are handed over: what it costs bounds what tuning may save.
Checkpoint and bias of a tuned model were chosen on the selection items, so that its score there flatters it: one that
does not pay here does not pay.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.datasets import Example
from bessemer.core.ladders import HandedOver, ModelWorth
from bessemer.core.types import Interval
from bessemer.engine import extra
from bessemer.evals import thresholds
from bessemer.evals.outcomes import NEVER, TooManyUnscorable, answered_by
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


class _Cheapest(NamedTuple):
    """The cheapest thresholds that keep the bound on the selection items."""

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


def handed_over(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> HandedOver | None:
    """Return what the rungs hand over, and whether each language model among `scored` pays for it.

    The incumbent stands last in both; only the selection items are looked at. None where they tell nothing.
    """
    alone = _without_models(plan, scored, versions)
    if alone is None:
        return None
    part = _part(scored[-1].optimise, alone.handed)
    models = []
    for place, one in enumerate(scored):
        if one.system.kind == MODEL:
            kept = [at for at, other in enumerate(scored) if other.system.kind != MODEL or at == place]
            both = _cheapest(plan, [scored[at] for at in kept], [versions[at] for at in kept])
            models.append(_worth(plan, one, alone, both))
    return HandedOver(
        n=int(alone.handed.sum()),
        share=float(alone.handed.mean()),
        quality=_score(plan, part),
        usd_per_1k=alone.usd_per_1k,
        models=tuple(models),
    )


def few(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> tuple[Example, ...]:
    """Return some of the selection items that the rungs hand over."""
    alone = _without_models(plan, scored, versions)
    chosen = () if alone is None else np.flatnonzero(alone.handed)[:FEW]
    return tuple(plan.optimise[place] for place in chosen)


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


def _worth(plan: LadderPlan, one: ScoredSystem, alone: _Cheapest, both: _Cheapest | None) -> ModelWorth:
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


def _compared(alone: _Cheapest, both: _Cheapest | None) -> str:
    if both is None or both.usd_per_1k is None or alone.usd_per_1k is None:
        return "at a cost that is not known"
    return f"the route costs ${both.usd_per_1k:.2g} per 1,000 requests with it and ${alone.usd_per_1k:.2g} without"


def _said(plan: LadderPlan, part: Sequence[ItemScore], alone: _Cheapest) -> str:
    score = _score(plan, part)
    worth = "unscorable" if score is None else f"{plan.request.metric} {score.value:.1%}"
    return f"{worth} on the {int(alone.handed.sum())} selection items that the rungs hand over"


def _without_models(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> _Cheapest | None:
    kept = [place for place, one in enumerate(scored) if one.system.kind != MODEL]
    return _cheapest(plan, [scored[place] for place in kept], [versions[place] for place in kept])


def _cheapest(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> _Cheapest | None:
    """Return the cheapest thresholds that keep the bound on the selection items, the incumbent alone where none do."""
    rows = rung_rows(plan, scored, versions)
    order = cascaded(scored, rows)
    systems, cost = [scored[place] for place in order], prices([rows[place] for place in order])
    maps = [fit_map(plan, scored[place], versions[place]) for place in order[:-1]]
    vector = np.full(len(maps), NEVER)
    items = outcomes(plan, systems, maps, test=False) if maps else None
    if items is not None:
        try:
            path = thresholds.plan(rule_of(plan), items, cost, len(plan.calibrate))
        except TooManyUnscorable:
            return None
        kept = np.flatnonzero(path.risk <= plan.request.alpha)
        if len(kept):
            vector = path.thresholds[kept[np.argmin(path.cost[kept])]]
    n = len(plan.optimise)
    who = np.zeros(n, dtype=np.intp) if items is None else answered_by(items.confidence, vector)
    last = len(systems) - 1
    answered = {one.system.target: who == place for place, one in enumerate(systems) if (who == place).any()}
    said = [systems[place].optimise[item] for item, place in enumerate(who)]
    known = [rows[place].usd_per_1k for place in order]
    asked = [np.isfinite(t) for t in vector] + [True]
    usd = [0.0 if not use else price for use, price in zip(asked, known, strict=True)]
    reached = [float((who >= place).mean()) for place in range(len(systems))]
    total = None if None in usd else sum(price * part for price, part in zip(usd, reached, strict=True) if price)
    return _Cheapest(who == last, answered, _score(plan, said), total)


def _part(items: Sequence[ItemScore], chosen: Flags) -> list[ItemScore]:
    return [item for item, use in zip(items, chosen, strict=True) if use]


def _score(plan: LadderPlan, items: Sequence[ItemScore]) -> Interval | None:
    return summarise(items, name="", seed=plan.request.seed, resamples=2000).score if items else None


def usd_per_1k(items: Sequence[ItemScore]) -> float | None:
    """Return what asking a system 1,000 times costs; None where it is not known of all."""
    total = summarise(items, name="", resamples=2).cost_usd if items else None
    return None if total is None else total / len(items) * 1000
