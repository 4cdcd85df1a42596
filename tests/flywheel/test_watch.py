"""A rung that drifts is stepped back from: by the log of feedback alone, in its order, at once, and reversibly."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlalchemy import text

from bessemer.core.access import Principal, Role
from bessemer.core.feedback import Asked, Feedback, FeedbackKind, FeedbackSource, Stream
from bessemer.core.inferences import Inference
from bessemer.core.models import ModelVersion
from bessemer.core.routes import (
    Calibration,
    ConfidenceScore,
    FallbackAction,
    Guarantee,
    Monitor,
    Route,
    Step,
    Target,
)
from bessemer.core.settings import Settings
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.kinds import MAJORITY
from bessemer.engine.rungs.rung import MajorityParameters
from bessemer.flywheel.promotion import rollback_route
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.watch import RouteWatch
from bessemer.registry.catalog import Catalog
from bessemer.registry.routes import void
from bessemer.registry.versions import make_version
from bessemer.runtime.compose import close_services, open_services
from bessemer.store import audit, feedback, inferences
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database

CONFIG = """
[models.big]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
"""
WHO = Principal(key_id="key", name="someone", role=Role.OWNER)
DAY = 86_400.0
SHARE = 0.5
WATCH = RouteWatch()


def rung(catalog: Catalog, blobs: BlobStore) -> ModelVersion:
    """Register a rung that says Yes to everything, nine times in ten with reason."""
    made = artefact.make(MAJORITY, ("No", "Yes"), MajorityParameters(), {"shares": np.array([0.1, 0.9])})
    manifest, arrays = artefact.encode(made)
    blobs.put(arrays)
    return catalog.register(make_version("guess", choices=("No", "Yes"), rung_sha256=blobs.put(manifest)))


def cascade(version: str, monitor: Monitor | None, last: str = "big") -> Route:
    known = Calibration(
        version=version, score=ConfidenceScore.CHOICE_MARGIN, dataset_sha256="0", x=(0.0, 9.0), y=(0.9, 0.9)
    )
    first = Step(targets=(Target(model=version),), threshold=0.85, calibration=known)
    return Route(name="matching", steps=(first, Step(targets=(Target(model=last),))), monitor=monitor)


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[FlywheelServices]:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    opened = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    version = rung(opened.catalog, opened.blobs)
    opened.catalog.put_route(cascade(version.id, Monitor(alpha=0.1, audit_share=SHARE)))
    yield opened.flywheel
    await close_services(opened)


def asked(services: FlywheelServices, name: str, at: float | None = None) -> Inference:
    """Keep an audited request that the rung answered with Yes."""
    row = Inference(
        id=name,
        route="matching",
        created_at=time.time() if at is None else at,
        key_id="key",
        messages=({"role": "user", "content": name},),
        input=None,
        input_sha256=name,
        output="Yes",
        finish_reason="stop",
        version=next(iter(services.catalog.route("matching").rungs)),
        input_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
        latency_s=0.0,
        propensity=1.0,
        config_sha256="0",
        calls=(),
        asked=Asked(Stream.AUDIT, SHARE),
    )
    services.database.write(lambda connection: inferences.insert_rows(connection, [row]))
    return row


def said(services: FlywheelServices, name: str, about: str, value: bool | str) -> None:
    kind = FeedbackKind.BOOLEAN if isinstance(value, bool) else FeedbackKind.DEMONSTRATION
    row = Feedback(
        id=name,
        metric="verdict" if isinstance(value, bool) else "demonstration",
        kind=kind,
        value=value,
        source=FeedbackSource.HUMAN,
        created_at=time.time(),
        inference_id=about,
        key_id="key",
        reviewer=True,
    )
    services.database.write(lambda connection: feedback.insert_rows(connection, [row]))


def state(services: FlywheelServices) -> list[FallbackAction]:
    return [one.action for one in WATCH.report(services, "matching").rungs]


def drifted(services: FlywheelServices, tell: Callable[[int], bool | str], prefix: str) -> int:
    """Return after how many verdicts the route stepped back, at most 100."""
    for number in range(100):
        asked(services, f"{prefix}{number:03}")
        said(services, f"{prefix}{number:03}", f"{prefix}{number:03}", tell(number))
        if WATCH.heed(services, "matching"):
            return number + 1
    raise AssertionError("it never stepped back")


async def test_l25_alarms_raise_the_threshold_then_end_the_rung_and_a_rollback_brings_it_back(
    services: FlywheelServices,
) -> None:
    before = services.catalog.route("matching")
    version = next(iter(before.rungs))
    assert drifted(services, lambda number: number % 2 == 0, "a") < 40
    assert state(services) == [FallbackAction.RAISED]
    raised = services.catalog.route("matching")
    assert [step.threshold for _, step in raised.served()] == [0.925, None]
    assert msgspec.structs.replace(raised, fallback=None) == before, "the route itself stays as it was put"
    report = WATCH.report(services, "matching")
    assert report.rungs[0].audited == 0, "what came before the change does not count again"
    drifted(services, lambda _: "No", "b")
    assert state(services) == [FallbackAction.OFF]
    assert [place for place, _ in services.catalog.route("matching").served()] == [1]
    told = audit.find(services.database, action="route.fell_back")
    assert [(one.detail["before"], one.detail["after"]) for one in told] == [("raised", "off"), ("none", "raised")]
    assert {one.detail["rung"] for one in told} == {version}
    rollback_route(services, "matching", WHO)
    rollback_route(services, "matching", WHO)
    assert services.catalog.route("matching") == before
    assert WATCH.heed(services, "matching") == []


async def test_a_route_that_steps_back_promises_nothing(services: FlywheelServices) -> None:
    route = services.catalog.route("matching")
    versions = (*route.rungs, services.catalog.resolve("big").version.id)
    promise = Guarantee(
        metric="accuracy", method="m", alpha=0.1, delta=0.1, n=9, dataset_sha256="0", statement="s", versions=versions
    )
    promised = msgspec.structs.replace(route, guarantee=promise)
    services.catalog.put_route(promised)
    assert void(promised, services.catalog.resolve) is None
    other = msgspec.structs.replace(promised, guarantee=msgspec.structs.replace(promise, versions=versions[:1]))
    assert "not measured" in (void(other, services.catalog.resolve) or ""), "the incumbent is another one than then"
    drifted(services, lambda _: False, "a")
    assert "step back" in (void(services.catalog.route("matching"), services.catalog.resolve) or "")
    assert "step back" in (WATCH.report(services, "matching").guarantee_void or "")


async def test_l27_what_is_known_is_a_replay_of_the_log_whatever_came_twice_late_or_was_taken_back(
    services: FlywheelServices,
) -> None:
    draw = random.Random(5)
    names = [f"i{number:02}" for number in range(12)]
    for name in names:
        asked(services, name)
    given: list[str] = []
    for number in range(60):
        # Ids may come late: the order of arrival is that of the ids.
        name = f"f{draw.choice([number, number - 3]):03}{number:03}"
        said(services, name, draw.choice(names), draw.choice([True, True, True, True, True, True, False, "Yes"]))
        given.append(name)
        if number % 7 == 0:
            gone = given.pop(draw.randrange(len(given)))
            remove(services.database, gone)
        assert WATCH.report(services, "matching") == RouteWatch().report(services, "matching")
        WATCH.heed(services, "matching")
    assert WATCH.report(services, "matching").rungs[0].audited <= len(names)


def remove(database: Database, name: str) -> None:
    database.write(lambda connection: connection.execute(text("DELETE FROM feedback WHERE id = :id"), {"id": name}))


async def test_a_silent_feed_is_an_alarm_and_no_traffic_is_none(services: FlywheelServices) -> None:
    heed = WATCH.heed
    with services.database.transaction() as connection:
        connection.execute(text("UPDATE route_changes SET changed_at = 1"))
    assert heed(services, "matching", silence=True) == [], "nothing was asked"
    asked(services, "old", time.time() - 8 * DAY)
    assert heed(services, "matching") == []
    assert [one.event for one in heed(services, "matching", silence=True)] == ["silent"]
    assert state(services) == [FallbackAction.RAISED]
    assert heed(services, "matching", silence=True) == [], "since the change nothing was asked"


async def test_two_processes_step_back_once(services: FlywheelServices) -> None:
    other = RouteWatch()
    for number in range(8):
        asked(services, f"a{number}")
        said(services, f"a{number}", f"a{number}", False)
    assert len(WATCH.heed(services, "matching")) == 1
    assert other.heed(services, "matching") == []
    assert state(services) == [FallbackAction.RAISED]
