"""From the answers of all rungs to a decision: the best single one, and the route that is proposed, with its promise.

Everything that chooses looks at the selection items; the calibration items are looked at by the test alone. What is not
known counts against the rungs: an unknown score is the rung's worst and the incumbent's best.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer.core.ladders import HandedOver, LadderPoint, LadderResult, RungRow
from bessemer.core.routes import Calibration, ConfidenceScore, Guarantee, Monitor, Step, Target
from bessemer.core.types import Interval
from bessemer.engine.rungs import committee
from bessemer.engine.rungs.kinds import MAJORITY, MEMBERS
from bessemer.evals import calibration, guarantee, thresholds
from bessemer.evals.confidence import fit_confidence
from bessemer.evals.guarantee import Population, ThresholdChoice
from bessemer.evals.metrics import ItemTerms, Terms
from bessemer.evals.outcomes import Outcomes, TooManyUnscorable
from bessemer.evals.paired import spent
from bessemer.evals.risk import F1Loss, Loss, Rule
from bessemer.evals.runs import ItemScore, summarise
from bessemer.flywheel.ladder_estimate import estimated
from bessemer.flywheel.ladder_monitor import monitor_of
from bessemer.flywheel.ladder_outcome import (
    INCUMBENT,
    FittedRung,
    LadderPlan,
    ScoredSystem,
)

Array = npt.NDArray[np.float64]
_NONE_PAYS = "no language model that joins pays, and what it promises it has promised on these items."


def decide(
    plan: LadderPlan,
    fitted: Sequence[FittedRung],
    scored: Sequence[ScoredSystem],
    versions: Sequence[str],
    look: int | None,
    seconds: float,
    handed_over: HandedOver | None = None,
) -> LadderResult:
    """Return the decision; `versions` of the scored systems by place. The incumbent stands last in both.

    `look`: which one this is at the calibration items; None: they were not looked at, because no model that joins pays.
    `handed_over`: what was said of language models; one that does not pay has no place in the route.
    """
    request = plan.request
    said = {} if handed_over is None else {one.model: one for one in handed_over.models if one.pays is False}
    rows = rung_rows(plan, scored, versions)
    rows = [
        msgspec.structs.replace(found, skipped=said[one.system.target].reason) if one.system.target in said else found
        for found, one in zip(rows, scored, strict=True)
    ]
    skipped = [
        RungRow(
            kind=one.kind,
            version=None,
            quality=None,
            n=0,
            usd_per_1k=None,
            ms=None,
            fit_s=None,
            ece=None,
            skipped=one.skipped,
        )
        for one in fitted
        if one.version is None
    ]
    order = cascaded(scored, rows)
    maps = [fit_map(plan, scored[place], versions[place]) for place in order[:-1]]
    choice, reason = (
        (None, _NONE_PAYS)
        if look is None
        else _certified(plan, [scored[place] for place in order], maps, rows, order, look)
    )
    steps: tuple[Step, ...] = ()
    shares: tuple[float, ...] = ()
    promise: Guarantee | None = None
    monitor: Monitor | None = None
    if choice is not None and choice.chosen is not None:
        names = [scored[place].system.target for place in order]
        kept = [place for place, t in enumerate(choice.chosen.thresholds) if t is not None]
        steps = (
            *(
                Step(
                    targets=(Target(model=versions[order[place]]),),
                    threshold=choice.chosen.thresholds[place],
                    calibration=maps[place],
                )
                for place in kept
            ),
            Step(targets=(Target(model=names[-1]),)),
        )
        shares = tuple(choice.chosen.shares[place] for place in (*kept, len(names) - 1))
        asked = tuple(versions[order[place]] for place in (*kept, len(names) - 1))
        promise = choice.guarantee and msgspec.structs.replace(choice.guarantee, versions=asked)
        monitor = monitor_of(plan, outcomes(plan, [scored[place] for place in order], maps, test=True), choice.chosen)
    best = _best_single(plan, rows)
    return LadderResult(
        route=request.route,
        incumbent=plan.incumbent,
        rungs=(*rows, *skipped),
        best_single=best,
        steps=steps,
        shares=shares,
        usd_per_1k=_cost(choice, [rows[place] for place in order]),
        guarantee=promise,
        curve=() if choice is None else tuple(_point(one, [rows[place] for place in order]) for one in choice.curve),
        look=look or 0,
        delta_spent=0.0 if look is None else spent(request.delta, look),
        summary=_summary(request.route, best, steps, shares, reason),
        seconds=seconds,
        applied=request.activate and bool(steps),
        monitor=monitor,
        handed_over=handed_over,
    )


def rung_rows(plan: LadderPlan, scored: Sequence[ScoredSystem], versions: Sequence[str]) -> list[RungRow]:
    """Return a line for each system, measured on the selection items; what is idle among them is skipped."""
    return _without_idle([_row(plan, one, version) for one, version in zip(scored, versions, strict=True)])


def _row(plan: LadderPlan, one: ScoredSystem, version: str) -> RungRow:
    """Return a system's line, measured on the selection items."""
    summary = summarise(one.optimise, name=one.system.target, seed=plan.request.seed, resamples=2000)
    usd = None if summary.cost_usd is None or not summary.n else summary.cost_usd / summary.n * 1000
    return RungRow(
        kind=one.system.kind,
        version=version,
        quality=summary.score,
        n=summary.n - summary.unscorable,
        usd_per_1k=usd,
        ms=None if summary.latency_p50_s is None else summary.latency_p50_s * 1000,
        fit_s=one.system.fit_s,
        ece=_ece(plan, one),
        estimate=_estimate(plan, one, version),
    )


def _estimate(plan: LadderPlan, one: ScoredSystem, version: str) -> Interval | None:
    """Return what verdicts on drawn answers say of a system, where what is right is open for some of them."""
    if one.system.kind == INCUMBENT or all(isinstance(item.terms, Terms) for item in one.optimise):
        return None
    fitted = fit_map(plan, one, version)
    if fitted is None:
        return None
    sure = [None if np.isnan(p) else float(p) for p in _confidence(one.optimise, fitted)]
    return estimated(plan.optimise, one.optimise, sure, len(plan.labels), seed=plan.request.seed)


def _without_idle(rows: Sequence[RungRow]) -> list[RungRow]:
    """Return the rows; a committee that is no better than its best member is skipped: it costs as much as all."""
    best = max((_value(row) for row in rows if row.kind in MEMBERS), default=-np.inf)
    idle = f"no better than the best of its members ({best:.3f})"
    return [
        msgspec.structs.replace(row, skipped=idle) if row.kind == committee.KIND and _value(row) <= best else row
        for row in rows
    ]


def _value(row: RungRow) -> float:
    return -np.inf if row.quality is None else row.quality.value


def _raw(items: Sequence[ItemScore]) -> Array:
    return np.array([np.nan if item.answer.score is None else item.answer.score for item in items], dtype=np.float64)


def _right(items: Sequence[ItemScore]) -> Array:
    """Return whether each answer is right [n]: a label's F1 is made of that; NaN where it is not known."""
    return np.array([_quality(item.terms) for item in items], dtype=np.float64)


def _quality(score: ItemTerms) -> float:
    """Return an item's own quality: a mean's value; for F1, whether the label is right (a true negative included)."""
    if not isinstance(score, Terms):
        return float("nan")
    return 1.0 if score.denominator == 0 else score.numerator / score.denominator


def fit_map(plan: LadderPlan, one: ScoredSystem, version: str) -> Calibration | None:
    raw, right = _raw(one.optimise), _right(one.optimise)
    seen = np.isfinite(raw) & np.isfinite(right)
    if not seen.any():
        return None
    return fit_confidence(
        raw[seen], right[seen], version=version, score=ConfidenceScore.CHOICE_MARGIN, dataset_sha256=plan.dataset.sha256
    )


def _ece(plan: LadderPlan, one: ScoredSystem) -> float | None:
    """Return the calibration error of maps that were fitted on the other half."""
    raw, right = _raw(one.optimise), _right(one.optimise)
    half = thresholds.halves([example.id for example in plan.optimise])
    seen = np.isfinite(raw) & np.isfinite(right)
    said, so = [], []
    for mine, other in ((half, ~half), (~half, half)):
        fit, use = seen & mine, seen & other
        if not fit.any() or not use.any():
            return None
        fitted = fit_confidence(
            raw[fit], right[fit], version="", score=ConfidenceScore.CHOICE_MARGIN, dataset_sha256="", pair=False
        )
        said.append(calibration.apply(fitted, raw[use]))
        so.append(right[use])
    return calibration.calibration_error(np.concatenate(said), np.concatenate(so), seed=plan.request.seed).debiased


def cascaded(scored: Sequence[ScoredSystem], rows: Sequence[RungRow]) -> list[int]:
    """Return the places of those that may stand in the route, cheapest first, the incumbent last."""

    def price(place: int) -> tuple[float, int]:
        usd = rows[place].usd_per_1k
        return (float("inf") if usd is None else usd, place)

    own = [
        place
        for place, one in enumerate(scored)
        if one.system.kind not in (INCUMBENT, MAJORITY)
        and rows[place].skipped is None
        and np.isfinite(_raw(one.optimise)).any()
    ]
    return [*sorted(own, key=price), len(scored) - 1]


def outcomes(
    plan: LadderPlan, scored: Sequence[ScoredSystem], maps: Sequence[Calibration | None], *, test: bool
) -> Outcomes:
    """Return the items as the test takes them; `test`: the calibration items, else the selection's."""
    parts = [one.calibrate if test else one.optimise for one in scored]
    confidence = np.stack([_confidence(items, fitted) for items, fitted in zip(parts, maps, strict=False)], axis=1)
    quality = np.empty((len(parts[-1]), len(parts)))
    terms = np.zeros((len(parts[-1]), len(parts), 2))
    for row, last in enumerate(parts[-1]):
        best = _at(last.score, best=True)
        quality[row, -1] = np.nan if best is None else _quality(best)
        terms[row, -1] = (0.0, 0.0) if best is None else best
        for place, items in enumerate(parts[:-1]):
            own = items[row]
            same = own.answer.text is not None and own.answer.text == last.answer.text and own.terms is None
            counted = best if same else _at(own.score, best=False)
            quality[row, place] = np.nan if counted is None else _quality(counted)
            terms[row, place] = (0.0, 0.0) if counted is None else counted
    weights = np.array(plan.weights) if test and plan.weights is not None else None
    return Outcomes(confidence, quality, terms if plan.request.metric == "f1" else None, weights)


def _confidence(items: Sequence[ItemScore], fitted: Calibration | None) -> Array:
    raw = _raw(items)
    if fitted is None:
        return np.full(len(raw), np.nan)
    shown = np.isfinite(raw)
    return np.where(shown, calibration.apply(fitted, np.where(shown, raw, 0.0)), np.nan)


def _at(score: ItemTerms, *, best: bool) -> Terms | None:
    if score is None or isinstance(score, Terms):
        return score
    return score.best if best else score.worst


def _certified(
    plan: LadderPlan,
    scored: Sequence[ScoredSystem],
    maps: Sequence[Calibration | None],
    rows: Sequence[RungRow],
    order: Sequence[int],
    look: int,
) -> tuple[ThresholdChoice | None, str]:
    """Return the test's outcome, and in words why it is so."""
    if len(scored) < 2:
        return None, "No rung could be fitted that a route could ask first."
    request = plan.request
    try:
        optimise = outcomes(plan, scored, maps, test=False)
        path = thresholds.plan(rule_of(plan), optimise, prices([rows[place] for place in order]), len(plan.calibrate))
        choice = guarantee.certify(
            path,
            outcomes(plan, scored, maps, test=True),
            delta=request.delta,
            look=look,
            names=[one.system.target for one in scored],
            population=_population(plan, scored),
            dataset_sha256=plan.dataset.sha256,
            seed=request.seed,
        )
    except TooManyUnscorable as error:
        return None, f"Nothing can be promised: {error}."
    return choice, choice.reason


def rule_of(plan: LadderPlan) -> Rule:
    """Return what the route may not lose."""
    request = plan.request
    return F1Loss(request.alpha) if request.metric == "f1" else Loss(request.alpha, "accuracy")


def prices(rows: Sequence[RungRow]) -> list[float]:
    """Return what asking each costs; where that is not known of all, the incumbent costs one and the others nothing."""
    known = [row.usd_per_1k for row in rows if row.usd_per_1k is not None]
    if len(known) < len(rows) or not known[-1]:
        return [1e-6 * place for place in range(len(rows) - 1)] + [1.0]
    return known


def _population(plan: LadderPlan, scored: Sequence[ScoredSystem]) -> Population:
    provenance = plan.dataset.provenance
    asked = provenance.get("request") or {}
    ends = [provenance.get(name) for name in ("first_inference_at", "last_inference_at")]
    first, last = ("an unknown day" if end is None else _day(float(end)) for end in ends)
    answered = {one.system.target: {item.answer.temperature for item in one.calibrate} for one in scored}
    return Population(
        unit="distinct inputs" if asked.get("deduplicate", True) else "requests",
        filter=plan.filter if asked.get("require_feedback", True) else "all",
        source=f"the calibration split of {plan.dataset.id}",
        period=(first, last),
        temperatures={name: _only(values) for name, values in answered.items()},
    )


def _only(values: set[float | None]) -> str:
    value = next(iter(values)) if len(values) == 1 else None
    return "of its default" if value is None else f"{value:g}"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _best_single(plan: LadderPlan, rows: Sequence[RungRow]) -> str | None:
    """Return the cheapest rung of at least the quality that is asked for.

    Where none is named, it is what the best of all has, the incumbent included, less the loss that is allowed.
    """
    scores = [row.quality.value for row in rows if row.quality is not None]
    if not scores:
        return None
    wanted = max(scores) - plan.request.alpha if plan.request.quality is None else plan.request.quality
    good = [row for row in rows[:-1] if row.skipped is None and _value(row) >= wanted]
    cheapest = min(good, key=lambda row: float("inf") if row.usd_per_1k is None else row.usd_per_1k, default=None)
    return None if cheapest is None else cheapest.version


def _cost(choice: ThresholdChoice | None, rows: Sequence[RungRow]) -> float | None:
    return None if choice is None or choice.chosen is None else _point(choice.chosen, rows).usd_per_1k


def _point(one: guarantee.CurvePoint, rows: Sequence[RungRow]) -> LadderPoint:
    """Return a vector with its cost: everybody up to the one that answers is asked, but those that never answer."""
    asked = [
        row.usd_per_1k if place == len(rows) - 1 or one.thresholds[place] is not None else 0.0
        for place, row in enumerate(rows)
    ]
    reached = [sum(one.shares[place:]) for place in range(len(rows))]
    known = [usd for usd in asked if usd is not None]
    usd = None if len(known) < len(rows) else float(np.dot(known, reached))
    return LadderPoint(thresholds=one.thresholds, usd_per_1k=usd, risk=one.empirical_risk, p_value=one.p_value)


def _summary(route: str, best: str | None, steps: Sequence[Step], shares: Sequence[float], reason: str) -> str:
    single = "No single rung is as good as asked." if best is None else f"Best single rung: {best}."
    if not steps:
        return f"{single} The route {route!r} stays as it is: {reason}"
    parts = ", ".join(f"{step.targets[0].model} {share:.0%}" for step, share in zip(steps, shares, strict=True))
    return f"{single} Proposed route {route!r}: {parts} of the calibration items. {reason}"
