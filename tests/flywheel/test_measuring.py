"""What measures was drawn at random, what teaches was not, and what is worth a label is asked about once."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bessemer.core.datasets import Example, Split
from bessemer.core.feedback import Asked, Feedback, FeedbackKind, FeedbackSource, Stream
from bessemer.core.inferences import Inference, ModelCall
from bessemer.core.settings import Settings
from bessemer.core.wire import DatasetRequest
from bessemer.evals.runs import ItemScore, SystemAnswer
from bessemer.feedback.datasets import WANTED, build, load
from bessemer.flywheel.ladder_estimate import estimated
from bessemer.flywheel.measuring import ENOUGH, fitted_on, measured_on
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.wanted import wanted_of
from bessemer.runtime.compose import close_services, open_services
from bessemer.store import audit, feedback, inferences

CONFIG = """
[models.big]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"

[routes.matching]
targets = ["big"]
"""


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[FlywheelServices]:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    opened = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    yield opened.flywheel
    await close_services(opened)


def example(name: str, asked: Asked | None) -> Example:
    return Example(id=name, split=Split.TRAIN, input=None, messages=(), answer="Yes", verdict=True, asked=asked)


def test_l28_an_audit_alone_measures_once_it_is_large_and_never_teaches() -> None:
    drawn = [example(f"a{i}", Asked(Stream.AUDIT, 0.1 if i % 2 else 0.2)) for i in range(ENOUGH)]
    picked = [example(f"q{i}", Asked(Stream.QUERY, 1.0)) for i in range(7)]
    other = [example(f"o{i}", None) for i in range(9)]
    every = [*drawn, *picked, *other]
    assert {one.id[0] for one in fitted_on(every)} == {"q", "o"}
    large = measured_on(every)
    assert large.examples == tuple(drawn)
    assert large.filter == "audit stream"
    assert large.weights == tuple(1.0 if i % 2 else 0.5 for i in range(ENOUGH))
    small = measured_on([*drawn[1:], *picked, *other])
    assert {one.id[0] for one in small.examples} == {"a", "o"}, "what was picked measures nothing"
    assert small.weights is None


def ask(services: FlywheelServices, name: str, text: str, sure: float | None, asked: Asked | None = None) -> None:
    call = ModelCall(
        id=f"call-{name}",
        inference_id=name,
        step=0,
        version="m@1",
        provider="x",
        output="Yes",
        finish_reason="stop",
        input_tokens=1,
        output_tokens=1,
        cost_usd=1.0,
        latency_s=0.0,
        created_at=0.0,
        confidence=sure,
    )
    row = Inference(
        id=name,
        route="matching",
        created_at=time.time(),
        key_id="key",
        messages=({"role": "user", "content": text},),
        input=None,
        input_sha256=name,
        output="Yes",
        finish_reason="stop",
        version="m@1",
        input_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
        latency_s=0.0,
        propensity=1.0,
        config_sha256="0",
        calls=(call,),
        asked=asked,
        hash_version=2,
    )
    services.database.write(lambda connection: inferences.insert_rows(connection, [row]))


def judge(services: FlywheelServices, name: str, about: str, *, right: bool, key: str = "key") -> None:
    row = Feedback(
        id=name,
        metric="verdict",
        kind=FeedbackKind.BOOLEAN,
        value=right,
        source=FeedbackSource.HUMAN,
        created_at=time.time(),
        inference_id=about,
        key_id=key,
        reviewer=True,
    )
    services.database.write(lambda connection: feedback.insert_rows(connection, [row]))


async def test_what_is_worth_a_label_is_one_of_each_kind_and_its_mark_reaches_the_dataset(
    services: FlywheelServices,
) -> None:
    for number in range(6):
        ask(services, f"inf-lost{number}", f"my card is lost since day {number}", None)
    ask(services, "inf-rate", "what is the exchange rate", None)
    ask(services, "inf-drawn", "please block the account", None, Asked(Stream.AUDIT, 0.1))
    ask(services, "inf-known", "close my account", None)
    judge(services, "fb-1", "inf-known", right=True)
    found = wanted_of(services, "matching", 5)
    assert [one.inference_id.rstrip("0123456789") for one in found] == ["inf-lost", "inf-rate"]
    assert [one.alike for one in found] == [6, 1]
    audit.append(services.database, "key", WANTED, "matching", {"inferences": [found[0].inference_id]})
    assert found[0].inference_id not in {one.inference_id for one in wanted_of(services, "matching", 5)}
    for number, name in enumerate((found[0].inference_id, "inf-drawn")):
        judge(services, f"fb-2{number}", name, right=True)
    request = DatasetRequest(name="d", route="matching")
    made = build(services.database, services.blobs, services.policy, request, prompt=None, code_commit=None, now=1.0)
    asked = {one.id: one.asked for one in load(services.blobs, made)}
    assert asked == {
        found[0].inference_id: Asked(Stream.QUERY, 1.0),
        "inf-drawn": Asked(Stream.AUDIT, 0.1),
        "inf-known": None,
    }


async def test_l11_who_contradicts_what_is_settled_weighs_less(services: FlywheelServices) -> None:
    for number in range(40):
        ask(services, f"inf-{number:02}", f"question {number}", None)
        judge(services, f"fb-{number:02}a", f"inf-{number:02}", right=True, key="careful")
        judge(services, f"fb-{number:02}b", f"inf-{number:02}", right=True, key="second")
        judge(services, f"fb-{number:02}c", f"inf-{number:02}", right=number % 2 == 0, key="guesses")
    request = DatasetRequest(name="d", route="matching")
    made = build(services.database, services.blobs, services.policy, request, prompt=None, code_commit=None, now=1.0)
    shown = made.provenance["authors"]
    assert shown["careful"]["trust"] > 0.5 > shown["guesses"]["trust"]
    assert all(one.verdict for one in load(services.blobs, made)), "the last word is not the guesser's"


def test_a_rung_is_estimated_from_verdicts_on_what_was_drawn_and_not_on_what_was_always_shown() -> None:
    rng = np.random.default_rng(3)
    labels, n = 5, 4000
    truth = rng.integers(labels, size=n)
    shown = rng.integers(labels, size=n)
    own = np.where(rng.uniform(size=n) < 0.7, truth, (truth + 1) % labels)
    said = SystemAnswer(text="", version="m@1", cost_usd=None, input_tokens=None, output_tokens=None, latency_s=0.0)
    items = [ItemScore(id=str(i), answer=msgspec.structs.replace(said, text=str(own[i]))) for i in range(n)]

    def rows(chance: float | None) -> list[Example]:
        return [
            Example(
                id=str(i),
                split=Split.SELECTION,
                input=None,
                messages=(),
                answer=str(shown[i]),
                verdict=bool(shown[i] == truth[i]),
                propensity=chance,
            )
            for i in range(n)
        ]

    found = estimated(rows(1 / labels), items, [0.4] * n, labels)
    assert found is not None
    assert found.low < 0.7 < found.high, "although its confidence says 0.4"
    assert estimated(rows(1.0), items, [0.4] * n, labels) is None
    assert estimated(rows(0.9), items, [0.4] * n, labels) is None, "a draw that cannot have been this one"
    assert estimated(rows(None), items, [0.4] * n, labels) is None
