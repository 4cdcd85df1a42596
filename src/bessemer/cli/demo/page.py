"""What the demo says: the ladder's table as soon as it is there, then a table of systems, and the report page."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.table import Table

from bessemer.cli.demo import expert, measure, offers, scenario
from bessemer.cli.demo.climb import INCUMBENT, Climbed, Joined, best_rung
from bessemer.cli.demo.curves import training_curves
from bessemer.cli.demo.progress import ProgressLine
from bessemer.cli.ladders import note_of, share_of
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.evaluations import GateResult
from bessemer.core.ladders import LadderResult, ModelWorth
from bessemer.core.types import as_json
from bessemer.flywheel.report import Report, RungLine, SystemRow, Tile, percent, usd
from bessemer_planner.pages import DASH, LineChart, Series

_EXPERT = "simulated expert (incumbent)"
_ROUTE, _LAST = "new route (rungs, then the expert)", "new route with the small model"
_BASE, _TUNED = "small model as it is", "small model, tuned"
_NOTES = (
    f"The incumbent is a simulated expert: a program on this machine that knows the answers and gives the wrong one to "
    f"{expert.ORDINARY_ERRORS:.0%} of the pairs, {expert.TWIN_ERRORS:.0%} of those that differ in one aspect, as a "
    "hash of the pair decides. No vendor's model is involved. Verdicts are simulated, too: the generator's own labels "
    "stand in for people.",
    f"Two meters: rungs and the small model are charged their measured seconds on this machine at {scenario.METER}'s "
    f"hourly list price; the simulated expert is charged its tokens, counted with the small model's tokenizer, at "
    f"{scenario.LIST_PRICE}'s dated list price. The ratio is an estimate of two bills, not a comparison of speed.",
)


def show_ladder(ladder: LadderResult, progress: ProgressLine) -> None:
    """Print the rungs and what the route became."""
    table = Table(title=f"Ladder of {ladder.route}, {ladder.seconds:.0f} s", title_justify="left")
    for column in ("rung", "n", "F1", "95 % interval", "USD per 1,000", "ms", "share", "what became of it"):
        table.add_column(column, justify="left" if column in ("rung", "what became of it") else "right")
    for line in _rung_lines(ladder):
        bounds = f"{percent(line.score.low)} to {percent(line.score.high)}" if line.score else DASH
        table.add_row(
            f"{line.name} ({line.label})" if line.label else line.name,
            f"{line.n:,}" if line.n else DASH,
            percent(line.score.value) if line.score else DASH,
            bounds,
            usd(line.cost_per_1k_usd),
            DASH if line.ms is None else f"{line.ms:.1f}",
            percent(line.share, 0),
            line.note,
        )
    progress.show(table)
    progress.say(ladder.summary)
    for told in _verdicts(ladder):
        progress.say(told)


def systems_table(report: Report) -> Table:
    """Return the table of what was measured on held-out requests."""
    table = Table(title=report.title, title_justify="left")
    for column in ("system", "n", report.metric, "95 % interval", "USD per 1,000", "not handed over"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for row in report.systems:
        score = row.score
        bounds = f"{percent(score.low)} to {percent(score.high)}" if score else DASH
        value = percent(score.value) if score else "unscorable"
        cells = (value, bounds, usd(row.cost_per_1k_usd), percent(row.small_share, 0))
        table.add_row(row.name, f"{row.n:,}", *cells)
    return table


def build(case: scenario.Case, climbed: Climbed) -> Report:
    """Return the page's data."""
    systems = _systems(case, climbed)
    joined = climbed.joined
    last = climbed.ladder if joined is None else joined.ladder
    in_force = last if joined is not None and joined.served else climbed.ladder
    rows = {row.name: row for row in systems}
    return Report(
        title="From feedback to the cheapest route that is good enough: record matching",
        summary=(
            f"{len(case.held_out):,} held-out questions about made-up offers, seed {case.seed}, {os.cpu_count()} "
            f"cores. {len(climbed.traffic):,} requests were served by a simulated expert and judged right or wrong."
        ),
        metric="F1",
        tiles=tuple(_tiles(rows[_EXPERT], rows.get(_LAST, rows[_ROUTE]))),
        systems=systems,
        rungs=_rung_lines(climbed.ladder),
        ladder=_ladder_chart(climbed.ladder, rows[_ROUTE]),
        verdicts=tuple(dict.fromkeys([*_verdicts(climbed.ladder), *_verdicts(last)])),
        curves=() if joined is None else tuple(training_curves({"reinforcement": joined.events})),
        quality_curve=None,
        reliability=(),
        calibration_note="",
        gate=_gate(climbed),
        gate_note=_gate_note(climbed),
        guarantee=climbed.route.guarantee,
        guarantee_note=in_force.summary,
        lineage=tuple(_lineage(case, climbed)),
        steps=tuple((name, _outcome_of(name, climbed), seconds) for name, seconds in climbed.seconds.items()),
        notes=_NOTES,
    )


def _systems(case: scenario.Case, climbed: Climbed) -> tuple[SystemRow, ...]:
    """Return what was measured on held-out questions."""
    score = measure.label_scorer(case.truth, scenario.LABELS, offers.YES)
    asked = [question.id for question in case.held_out]
    first = {answer.question: answer for answer in climbed.traffic}

    def row(name: str, answers: Sequence[ApplicationAnswer], label: str = "") -> SystemRow:
        return measure.system_row(name, answers, score, seed=case.seed, label=label)

    def route(name: str, answers: Sequence[ApplicationAnswer]) -> SystemRow:
        mine = sum(answer.provider == "openai" for answer in answers) / max(1, len(answers))
        found = row(name, answers, "partly simulated")
        return msgspec.structs.replace(found, small_share=1 - mine, latency_p50_s=None)

    rows = [
        measure.trivial_row(asked, scenario.LABELS, score, seed=case.seed),
        # How long a program takes that looks its answer up says nothing of a model.
        msgspec.structs.replace(row(_EXPERT, [first[name] for name in asked], "simulated"), latency_p50_s=None),
        *_best_rung(climbed),
        route(_ROUTE, climbed.served),
        row(_BASE, climbed.base),
    ]
    if climbed.joined is not None:
        rows.append(row(_TUNED, climbed.joined.alone))
        if climbed.joined.served:
            rows.append(route(_LAST, climbed.joined.served))
    return tuple(rows)


def _best_rung(climbed: Climbed) -> Iterable[SystemRow]:
    """Yield the evaluation's row of the best rung."""
    best = best_rung(climbed.ladder)
    for row in climbed.gate.rows if climbed.gate else ():
        if best is not None and row.version == best.version:
            cost = None if row.cost_usd is None or not row.n else row.cost_usd / row.n * 1000
            yield SystemRow(
                name=f"best rung alone ({best.kind})",
                n=row.n,
                score=row.score,
                cost_per_1k_usd=cost,
                version=best.version,
                latency_p50_s=row.latency_p50_s,
                unscorable=row.unscorable,
            )


def _rung_lines(ladder: LadderResult) -> tuple[RungLine, ...]:
    plain: Any = as_json(ladder)
    lines = []
    for row, shown in zip(ladder.rungs, plain["rungs"], strict=True):
        simulated = row.kind == INCUMBENT
        lines.append(
            RungLine(
                name=scenario.INCUMBENT if simulated else row.kind,
                label="simulated" if simulated else "",
                version=row.version,
                n=row.n,
                score=row.quality,
                cost_per_1k_usd=row.usd_per_1k,
                ms=None if simulated else row.ms,
                share=share_of(shown, plain),
                note=note_of(shown, plain),
            )
        )
    return tuple(lines)


def _ladder_chart(ladder: LadderResult, route: SystemRow) -> LineChart:
    """Return quality against cost, a mark for each rung and for the route that was made of them."""
    known = [row for row in ladder.rungs if row.quality is not None and row.usd_per_1k]
    series = [
        Series(
            name=_EXPERT if row.kind == INCUMBENT else row.kind,
            points=((row.usd_per_1k, row.quality.value),),
            low=(row.quality.low,),
            high=(row.quality.high,),
            marks=True,
        )
        for row in known
        if row.quality is not None and row.usd_per_1k is not None
    ]
    if route.score is not None and route.cost_per_1k_usd is not None:
        here = ((route.cost_per_1k_usd, route.score.value),)
        series.append(Series(name="the route, on held-out items", points=here, marks=True))
    return LineChart(
        title="F1 against the cost of 1,000 requests",
        x_label="USD per 1,000 requests",
        y_label="F1",
        series=tuple(series),
        x_log=True,
        y_percent=True,
        note="Rungs on the selection items; intervals stand in the tables.",
    )


def _verdicts(ladder: LadderResult) -> list[str]:
    """Return what the ladder says of each language model."""
    left = ladder.handed_over
    return [] if left is None else [f"{one.model} {one.reason}.{_saved(one)}" for one in left.models]


def _saved(one: ModelWorth) -> str:
    if not one.pays or one.saves_usd_per_1k is None:
        return ""
    return f" In a million requests that is {usd(one.saves_usd_per_1k * 1000)}."


def _tiles(before: SystemRow, after: SystemRow) -> Iterable[Tile]:
    """Yield cost, quality and share of the new route against what served before."""
    if before.cost_per_1k_usd and after.cost_per_1k_usd is not None:
        saved = 1 - after.cost_per_1k_usd / before.cost_per_1k_usd
        direction = "cheaper" if saved >= 0 else "dearer"
        yield Tile(value=f"{abs(saved) * 100:.1f} % {direction}", text=f"per request than the {_EXPERT}")
    if before.score is not None and after.score is not None:
        gained = (after.score.value - before.score.value) * 100
        yield Tile(value=f"{gained:+.1f} points", text=f"of F1 against the {_EXPERT}")
    if after.small_share is not None:
        yield Tile(value=percent(after.small_share, 0), text="of requests answered without it")


def _gate(climbed: Climbed) -> GateResult | None:
    return None if climbed.gate is None else climbed.gate.gate


def _gate_note(climbed: Climbed) -> str:
    gate = _gate(climbed)
    if gate is None:
        return "There is no rung to ask this of."
    version = gate.candidate
    if not gate.passed:
        return f"{version} is not promoted: alone it would lose too much, or too little is known. The route hands over."
    return (
        f"{version} became challenger, then champion of its model; `bessemer rollback` undoes both. What the route may "
        "ask it is the certificate's to say, below."
    )


def _lineage(case: scenario.Case, climbed: Climbed) -> Iterable[tuple[str, str]]:
    dataset = climbed.dataset
    yield "dataset", f"{dataset.id} (sha256 {dataset.sha256})"
    yield "rows", ", ".join(f"{split} {count:,}" for split, count in dataset.counts.items())
    for row in climbed.ladder.rungs:
        if row.version is not None and row.kind != INCUMBENT:
            yield f"{row.kind}: version", row.version
    if climbed.joined is not None:
        yield from _tuning(case, climbed.joined)
    yield "seed", str(case.seed)
    yield "code commit", str(dataset.provenance.get("code_commit") or "unknown")


def _tuning(case: scenario.Case, joined: Joined) -> Iterable[tuple[str, str]]:
    job = joined.tuned.job
    yield "small model: base", scenario.MODEL
    yield "small model: version", joined.tuned.version.id
    yield "small model: job", f"{job.id}, {job.trained_tokens or 0:,} trained tokens"
    yield "small model: method", msgspec.json.encode(scenario.method(case.scale)).decode()
    yield "small model: options", msgspec.json.encode(scenario.OPTIONS).decode()


def _outcome_of(name: str, climbed: Climbed) -> str:
    joined, gate = climbed.joined, _gate(climbed)
    said = {
        "traffic": f"{len(climbed.traffic):,} requests answered and recorded",
        "dataset": f"{sum(climbed.dataset.counts.values()):,} rows frozen",
        "ladder": climbed.ladder.summary,
        "evaluation": "gate passed" if gate and gate.passed else "gate not passed",
    }
    if joined is not None:
        said["tuning"] = f"{joined.tuned.job.trained_tokens or 0:,} trained tokens, {joined.tuned.version.id}"
        said["ladder with the small model"] = joined.ladder.summary
    return said.get(name, "")
