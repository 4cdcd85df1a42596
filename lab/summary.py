"""Turns a finished turn into the report page's data."""

from collections.abc import Iterable, Sequence

import msgspec

from bessemer.cli.demo.curves import training_curves
from bessemer.core.evaluations import CascadeResult
from bessemer.core.types import Frozen
from bessemer.flywheel.report import Report, SystemRow, Tile, percent
from bessemer_planner.pages import LineChart, Series
from lab.turn import TurnPlan, TurnResult


class SummaryTexts(Frozen, frozen=True):
    """What only the caller knows how to say."""

    title: str
    summary: str
    metric: str
    before: str
    """Name of the row that the new route is compared with."""
    after: str
    gate_note: str = ""
    notes: tuple[str, ...] = ()


def build_report(
    plan: TurnPlan, outcome: TurnResult, texts: SummaryTexts, systems: Sequence[SystemRow], quality: Series | None
) -> Report:
    """Return the page's data."""
    cascade = outcome.cascade
    return Report(
        title=texts.title,
        summary=texts.summary,
        metric=texts.metric,
        tiles=headline(systems, texts),
        systems=tuple(systems),
        curves=tuple(training_curves(outcome.events)),
        quality_curve=_quality_chart(quality, systems, texts),
        reliability=_reliability(cascade),
        calibration_note=_calibration_note(cascade),
        gate=outcome.evaluation.gate,
        gate_note=texts.gate_note,
        guarantee=outcome.route.guarantee,
        guarantee_note=_guarantee_note(cascade),
        lineage=tuple(_lineage(plan, outcome)),
        steps=tuple((name, _outcome_of(name, outcome), seconds) for name, seconds in outcome.seconds.items()),
        notes=texts.notes,
    )


def headline(systems: Sequence[SystemRow], texts: SummaryTexts) -> tuple[Tile, ...]:
    """Return cost, quality and small share of the new route against what served before."""
    rows = {row.name: row for row in systems}
    before, after = rows.get(texts.before), rows.get(texts.after)
    if before is None or after is None:
        return ()
    tiles: list[Tile] = []
    if before.cost_per_1k_usd and after.cost_per_1k_usd is not None:
        change = 1 - after.cost_per_1k_usd / before.cost_per_1k_usd
        direction = "cheaper" if change >= 0 else "dearer"
        tiles.append(Tile(value=f"{abs(change) * 100:.1f} % {direction}", text=f"per request than {texts.before}"))
    if before.score is not None and after.score is not None:
        points = (after.score.value - before.score.value) * 100
        tiles.append(Tile(value=f"{points:+.1f} points", text=f"of {texts.metric} against {texts.before}"))
    if after.small_share is not None:
        tiles.append(Tile(value=percent(after.small_share, 0), text="of requests answered by the small model"))
    return tuple(tiles)


def _quality_chart(quality: Series | None, systems: Sequence[SystemRow], texts: SummaryTexts) -> LineChart | None:
    if quality is None:
        return None
    lines = [quality]
    rows = {row.name: row for row in systems}
    before, after = rows.get(texts.before), rows.get(texts.after)
    if before is not None and before.score is not None:
        value = before.score.value
        lines.append(Series(name=texts.before, points=((0.0, value), (1.0, value)), dashed=True))
    if after is not None and after.score is not None and after.small_share is not None:
        here = ((1 - after.small_share, after.score.value),)
        lines.append(Series(name="threshold in force", points=here, marks=True))
    return LineChart(
        title=f"{texts.metric} against escalated share",
        x_label=f"answered by {texts.before}",
        y_label=texts.metric,
        series=tuple(lines),
        x_percent=True,
        y_percent=True,
        note="Held-out requests, the least confident handed over first; band: 95 % bootstrap interval.",
    )


def _reliability(cascade: CascadeResult | None) -> tuple[tuple[float, float, int], ...]:
    return () if cascade is None else tuple((row.confidence, row.accuracy, row.n) for row in cascade.reliability)


def _calibration_note(cascade: CascadeResult | None) -> str:
    if cascade is None:
        return ""
    n = sum(row.n for row in cascade.reliability)
    error = cascade.expected_calibration_error
    return f"{n:,} answers that neither training nor the fit saw; expected calibration error {error:.3f}."


def _guarantee_note(cascade: CascadeResult | None) -> str:
    if cascade is None:
        return "There is no cascade: no incumbent to hand over to, or no version that passed its gate."
    if cascade.threshold is None:
        return "No threshold could be certified, so the route stays as it was."
    share = percent(cascade.accepted_share)
    return f"Threshold on the calibrated confidence: {cascade.threshold:.3f}; it kept {share} of the calibration items."


def _lineage(plan: TurnPlan, outcome: TurnResult) -> Iterable[tuple[str, str]]:
    yield "dataset", f"{outcome.dataset.id} (sha256 {outcome.dataset.sha256})"
    yield "rows", ", ".join(f"{split} {count:,}" for split, count in outcome.dataset.counts.items())
    for job in plan.jobs:
        made = outcome.jobs[job.name]
        yield f"{job.name}: version", outcome.versions[job.name]
        yield f"{job.name}: job", f"{made.job.id}, {made.job.trained_tokens or 0:,} trained tokens"
        yield f"{job.name}: method", msgspec.json.encode(job.method).decode()
        yield f"{job.name}: options", msgspec.json.encode(job.metadata).decode()
    yield "base", plan.model
    yield "seed", str(plan.seed)
    commit = outcome.dataset.provenance.get("code_commit")
    yield "code commit", str(commit or "unknown")


def _outcome_of(name: str, outcome: TurnResult) -> str:
    if name.startswith("tuning"):
        made = outcome.jobs[name.removeprefix("tuning (").removesuffix(")")]
        return f"{made.job.trained_tokens or 0:,} trained tokens, version {made.version.id}"
    if name.startswith("final"):
        label = name.removeprefix("final (").removesuffix(")")
        return f"{len(outcome.finals.get(label, [])):,} held-out requests"
    cascade, gate = outcome.cascade, outcome.evaluation.gate
    said = {
        "traffic": f"{len(outcome.traffic):,} requests answered and recorded",
        "dataset": f"{sum(outcome.dataset.counts.values()):,} rows frozen",
        "evaluation": "gate passed" if gate and gate.passed else "gate not passed",
        "route": "no threshold certified" if cascade and not cascade.applied else "new route in force",
    }
    return said.get(name, "")
