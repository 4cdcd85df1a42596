"""The demo's page shows each rung with what became of it, what is simulated, and whether a language model pays."""

import io

from bessemer.cli.demo import offers, page, scenario
from bessemer.cli.demo.climb import Climbed
from bessemer.cli.demo.progress import ProgressLine
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.datasets import Dataset
from bessemer.core.ladders import HandedOver, LadderResult, ModelWorth, RungRow
from bessemer.core.routes import Guarantee, Route, Step, Target
from bessemer.core.types import Interval
from bessemer.flywheel.report import render

CASE = scenario.build(3, scenario.Scale.of(smoke=True))
QUALITY = Interval(value=0.9, low=0.8, high=0.95)
STEPS = (
    Step(targets=(Target(model="match-pairs@1"),), threshold=0.9),
    Step(targets=(Target(model=scenario.INCUMBENT),)),
)
PROMISE = Guarantee(
    metric="f1", method="m", alpha=0.02, delta=0.1, n=60, dataset_sha256="", statement="It loses at most two points."
)


def row(kind: str, version: str | None, usd: float | None, skipped: str | None = None) -> RungRow:
    quality = None if usd is None else QUALITY
    n = 0 if usd is None else 20
    return RungRow(
        kind=kind, version=version, quality=quality, n=n, usd_per_1k=usd, ms=1.5, fit_s=None, ece=None, skipped=skipped
    )


def ladder(pays: bool | None) -> LadderResult:
    worth = ModelWorth(
        model=scenario.MODEL, tuned=False, n=4, quality=None, usd_per_1k=0.002, saves_usd_per_1k=0.001, gain=None,
        pays=pays, reason="may pay once tuned",
    )  # fmt: skip
    return LadderResult(
        route=scenario.ROUTE, incumbent=scenario.INCUMBENT, best_single="match-pairs@1", steps=STEPS, shares=(0.8, 0.2),
        rungs=(
            row("majority", "match-majority@1", 1e-7),
            row("pairs", "match-pairs@1", 1e-5),
            row("incumbent", "simulated-expert@1", 0.01),
            row("embedding", None, None, "there is no encoder"),
        ),
        usd_per_1k=0.002, guarantee=PROMISE, curve=(), look=1, delta_spent=0.06, summary="Proposed.", seconds=30.0,
        applied=True, handed_over=HandedOver(n=4, share=0.2, quality=None, usd_per_1k=0.002, models=(worth,)),
    )  # fmt: skip


def answers(provider: str, cost: float) -> list[ApplicationAnswer]:
    return [
        ApplicationAnswer(
            question=question.id, inference_id="i", text=CASE.truth[question.id], version="v", provider=provider,
            cost_usd=cost, escalated=None, input_tokens=1, output_tokens=1, latency_s=0.1,
        )
        for question in CASE.questions
    ]  # fmt: skip


def held_out(given: list[ApplicationAnswer]) -> list[ApplicationAnswer]:
    names = {question.id for question in CASE.held_out}
    return [answer for answer in given if answer.question in names]


CLIMBED = Climbed(
    dataset=Dataset(id="ds-1", name="d", sha256="", created_at=0.0, counts={}, provenance={}, files={}),
    traffic=answers("openai", 1e-5),
    ladder=ladder(None),
    gate=None,
    served=held_out(answers("rungs", 1e-8)),
    base=held_out(answers("local", 1e-5))[:3],
    joined=None,
    route=Route(name=scenario.ROUTE, steps=STEPS, guarantee=PROMISE),
    seconds={"traffic": 1.0},
)


def test_the_terminal_shows_each_rung_its_cost_its_share_and_why() -> None:
    stream = io.StringIO()
    with ProgressLine(stream, live=False) as progress:
        page.show_ladder(CLIMBED.ladder, progress)
    said = stream.getvalue()
    lines = {
        name: next(line for line in said.splitlines() if f" {name}" in line)
        for name in ("majority", "pairs", "embedding")
    }
    assert "baseline: one answer to everything" in lines["majority"]
    assert all(part in lines["pairs"] for part in ("90.0 %", "80.0 % to 95.0 %", "$1.0e-05", "1.5", "80 %", "kept"))
    assert "skipped: there is no encoder" in lines["embedding"]
    assert "simulated-expert (simulated)" in said
    assert "smollm2-135m may pay once tuned." in said


def test_the_page_has_chart_promise_baseline_and_says_what_is_simulated() -> None:
    report = page.build(CASE, CLIMBED)
    names = [row.name for row in report.systems]
    assert f"always '{offers.YES}' (trivial)" in names
    assert report.systems[1].label == "simulated"
    assert [tile.value for tile in report.tiles] == ["99.9 % cheaper", "+0.0 points", "100 %"]
    html = render(report)
    for part in ("It loses at most two points.", "<h2>The ladder</h2>", "<h2>Does a language model pay?</h2>", "<svg"):
        assert part in html
    assert "<h2>Training</h2>" not in html, "nothing was tuned"
