"""A champion has passed a gate that counts by the operator's policy; so has whatever a route asks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from bessemer.core.access import Principal, Role
from bessemer.core.datasets import Dataset, Split
from bessemer.core.errors import Conflict, InvalidRequest
from bessemer.core.evaluations import Evaluation, GateResult
from bessemer.core.models import Lineage, ModelVersion
from bessemer.core.routes import Route, Step, Target
from bessemer.core.settings import Settings
from bessemer.core.types import JobStatus, as_json
from bessemer.core.wire import EvaluationRequest
from bessemer.flywheel.evaluation import check, lacking
from bessemer.flywheel.promotion import promote, rollback, rollback_route
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.standing import ungated
from bessemer.gateway.pipeline import on_behalf_of
from bessemer.runtime.compose import close_services, open_services
from bessemer.store import audit, datasets, evaluations, job_rows, keys
from bessemer.store.job_rows import JobRow
from bessemer.store.keys import KeyRow

CONFIG = """
[models.small]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"

[models.big]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"

[routes.matching]
targets = ["big"]
"""
PINNED = """
[gate.pins.own]
dataset = "ds-pinned"
incumbent = "big"
"""
WHO = Principal(key_id="key", name="someone", role=Role.OWNER)
GATE = GateResult(
    passed=True, rule="not worse", difference=None, margin=0.02, n=300, discordant=9, look=1, alpha=0.0152, p_value=0.01
)


@pytest.fixture
async def services(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[FlywheelServices]:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG + getattr(request, "param", ""))
    opened = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    row = Dataset(id="ds", name="d", sha256="0", created_at=0.0, counts={}, provenance={}, files={}, approved=True)
    datasets.insert(opened.database, row)
    yield opened.flywheel
    await close_services(opened)


def tuned(services: FlywheelServices, seed: int = 0, model: str = "own") -> ModelVersion:
    base = services.catalog.resolve("small").version.id
    lineage = Lineage(base=base, method="supervised", seed=seed)
    return services.catalog.register(ModelVersion(id="", model=model, created_at=float(seed), lineage=lineage))


def evaluated(
    services: FlywheelServices,
    name: str,
    version: ModelVersion,
    *,
    reference: str = "matching",
    at: float = 1.0,
    split: Split = Split.HOLDOUT,
    dataset: str = "ds",
    metric: str = "accuracy",
    **gate: object,
) -> None:
    result = msgspec.structs.replace(GATE, candidate=version.id, reference=reference, **gate)
    row = Evaluation(id=name, dataset=dataset, split=split, metric=metric, created_at=at, rows=(), gate=result)
    evaluations.insert(services.database, row)


def refused(services: FlywheelServices, version: ModelVersion, evaluation: str | None = None) -> tuple[str | None, str]:
    with pytest.raises(Conflict) as error:
        promote(services, version.id, "champion", WHO, evaluation_id=evaluation)
    return error.value.error_code, error.value.message


async def test_a_version_without_a_gate_is_no_champion(services: FlywheelServices) -> None:
    assert refused(services, tuned(services))[0] == "gate_missing"
    assert services.catalog.aliases() == []


async def test_the_newest_gate_that_counts_decides(services: FlywheelServices) -> None:
    version = tuned(services)
    evaluated(services, "first", version, at=1.0)
    evaluated(services, "second", version, at=2.0, passed=False)
    evaluated(services, "third", version, at=3.0, split=Split.SELECTION)
    code, message = refused(services, version)
    assert code == "gate_failed"
    assert "second" in message


@pytest.mark.parametrize("named", ["only", None])
@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"split": Split.TRAIN}, "not the hold-out"),
        ({"split": Split.SELECTION}, "not the hold-out"),
        ({"margin": 1.0}, "above 0.05"),
        ({"n": 1}, "fewer than 50"),
        ({"n": None, "look": None}, "earlier rule"),
        ({"reference": "own@000000000000"}, "the reference must be"),
    ],
)
async def test_a_gate_that_shows_too_little_does_not_count(
    services: FlywheelServices, facts: dict[str, object], why: str, named: str | None
) -> None:
    version = tuned(services)
    evaluated(services, "only", version, **facts)  # type: ignore[arg-type]
    code, message = refused(services, version, named)
    assert code == "gate_missing"
    assert why in message


async def test_another_broken_version_is_no_reference(services: FlywheelServices) -> None:
    first, second = tuned(services, 1), tuned(services, 2)
    evaluated(services, "both-broken", first, reference=second.id)
    assert refused(services, first)[0] == "gate_missing"


async def test_beating_the_base_does_not_replace_the_champion(services: FlywheelServices) -> None:
    first, second = tuned(services, 1), tuned(services, 2)
    evaluated(services, "first", first, reference=services.catalog.resolve("small").version.id)
    promote(services, first.id, "champion", WHO)
    evaluated(services, "against-base", second, reference=services.catalog.resolve("small").version.id, at=2.0)
    evaluated(services, "against-route", second, reference="matching", at=3.0)
    assert "present champion" in refused(services, second)[1]
    evaluated(services, "against-champion", second, reference=first.id, at=1.5)
    assert promote(services, second.id, "champion", WHO).evaluation == "against-champion"
    # The champion has changed: what was shown against the former one does not bring it back.
    assert refused(services, first)[0] == "gate_missing"


async def test_the_record_keeps_what_it_stands_on(services: FlywheelServices) -> None:
    version = tuned(services)
    evaluated(services, "held-out", version)
    moved = promote(services, version.id, "champion", WHO)
    assert (moved.version, moved.evaluation) == (version.id, "held-out")
    assert services.catalog.aliases("own")[0].evaluation == "held-out"
    assert services.catalog.alias_history("own", "champion")[0].evaluation == "held-out"
    event = next(row for row in audit.find(services.database) if row.action == "version.promoted")
    assert event.detail["evaluation"] == "held-out"
    assert promote(services, version.id, "champion", WHO) == moved  # once more changes nothing
    assert len(services.catalog.alias_history("own", "champion")) == 1


@pytest.mark.parametrize("services", [PINNED], indirect=True)
async def test_the_operator_pins_dataset_and_incumbent(services: FlywheelServices) -> None:
    version = tuned(services)
    evaluated(services, "own-choice", version, dataset="ds-easy", reference="big", at=3.0)
    evaluated(services, "own-reference", version, dataset="ds-pinned", reference="small", at=2.0)
    message = refused(services, version)[1]
    assert "ds-pinned" in message
    assert "must be big" in message
    evaluated(services, "pinned", version, dataset="ds-pinned", reference=services.catalog.resolve("big").version.id)
    assert promote(services, version.id, "champion", WHO).evaluation == "pinned"


@pytest.mark.parametrize(
    ("services", "counts"),
    [("", False), ('[gate.pins.own]\ndataset = "ds-theirs"\n', True)],
    indirect=["services"],
)
async def test_data_that_the_requester_chose_alone_decides_nothing(services: FlywheelServices, counts: bool) -> None:
    version = tuned(services)
    theirs = Dataset(id="ds-theirs", name="d", sha256="0", created_at=0.0, counts={}, provenance={}, approved=False)
    datasets.insert(services.database, theirs)
    evaluated(services, "eval-theirs", version, dataset="ds-theirs")
    if not counts:
        code, message = refused(services, version)
        assert code == "gate_missing"
        assert "/v1/datasets/ds-theirs/approve" in message
        datasets.approve(services.database, "ds-theirs")
    assert promote(services, version.id, "champion", WHO).evaluation == "eval-theirs"


@pytest.mark.parametrize(
    ("built_by", "counts"), [("key-owner", True), ("key-member", False), ("key-unknown", False), (None, False)]
)
async def test_data_of_an_earlier_release_counts_where_its_builder_had_a_say(
    services: FlywheelServices, built_by: str | None, counts: bool
) -> None:
    """Such a row says nothing of approval."""
    for number, role in enumerate((Role.OWNER, Role.MEMBER)):
        row = KeyRow(id=f"key-{role}", name="k", role=role, key_hash=f"{number}" * 64, hint="0000", created_at=1.0)
        keys.insert(services.database, msgspec.structs.replace(row, revoked_at=2.0))
    provenance = {"request": {"tags": {"built_by": "key-owner", "approved": "true"}}}
    old = Dataset(id="ds-old", name="d", sha256="0", created_at=0.0, counts={}, provenance=provenance, files={})
    if built_by is not None:
        old = msgspec.structs.replace(old, provenance=provenance | {"built_by": built_by})
    datasets.insert(services.database, old)
    with services.database.transaction() as connection:
        body = msgspec.json.encode({k: v for k, v in as_json(old).items() if k != "approved"}).decode()
        connection.execute(text("UPDATE datasets SET body = :body WHERE id = 'ds-old'"), {"body": body})
    assert datasets.get(services.database, "ds-old").approved is None
    version = tuned(services)
    evaluated(services, "eval-old", version, dataset="ds-old")
    if not counts:
        code, message = refused(services, version)
        assert code == "gate_missing"
        assert "/v1/datasets/ds-old/approve" in message
        datasets.approve(services.database, "ds-old")
    assert promote(services, version.id, "champion", WHO).evaluation == "eval-old"


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OWNER])
async def test_a_grader_that_the_requester_chose_alone_counts_for_who_names_the_evaluation(
    services: FlywheelServices, role: Role
) -> None:
    version = tuned(services)
    keys.insert(
        services.database, KeyRow(id="key-1", name="k", role=role, key_hash="0" * 64, hint="0000", created_at=1.0)
    )
    job = JobRow(
        id="eval-1",
        kind="evaluation",
        request={"grader": {"type": "python"}},
        status=JobStatus.SUCCEEDED,
        created_at=1.0,
        key_id="key-1",
    )
    job_rows.insert(services.database, job)
    evaluated(services, "eval-1", version, metric="reward")
    request = EvaluationRequest(
        dataset="ds", systems=[version.id, "matching"], metric="reward", candidate=version.id, reference="matching"
    )
    told = lacking(services.asked_by(on_behalf_of("key-1", "proj_default", None)), request)
    assert (told is not None and "name the evaluation" in told) is (role is Role.MEMBER)
    if role is Role.MEMBER:
        code, message = refused(services, version)
        assert code == "gate_missing"
        assert "name the evaluation" in message
        assert ungated(services, route(version.id)) == [version.id]
    named = "eval-1" if role is Role.MEMBER else None
    assert promote(services, version.id, "champion", WHO, evaluation_id=named).evaluation == "eval-1"


def route(*targets: str | Target) -> Route:
    asked = tuple(Target(model=one) if isinstance(one, str) else one for one in targets)
    return Route(name="fresh", steps=(Step(targets=asked),))


async def test_a_route_asks_no_tuned_version_without_a_gate(services: FlywheelServices) -> None:
    version = tuned(services)
    services.catalog.move_alias("own", "challenger", version.id)
    for target in (version.id, "own", "own:challenger"):
        assert ungated(services, route("big", target)) == [target]
    assert ungated(services, route("big", "small")) == []
    evaluated(services, "held-out", version)
    assert ungated(services, route(version.id, "own:challenger")) == []
    assert ungated(services, route("own")) == ["own"]  # the newest version, whichever that will be
    promote(services, version.id, "champion", WHO)
    assert ungated(services, route("own", "own:champion", version.id)) == []
    assert ungated(services, route(Target(model=version.id, prompt="another"))) == [version.id]


async def test_what_a_route_asks_already_stays_and_its_alias_moves_by_gates_alone(services: FlywheelServices) -> None:
    version, other = tuned(services, 1), tuned(services, 2)
    promote(services, version.id, "challenger", WHO)
    services.catalog.put_route(route("own:challenger"))
    assert ungated(services, route("own:challenger", "big")) == []
    with pytest.raises(Conflict) as error:
        promote(services, other.id, "challenger", WHO)
    assert error.value.error_code == "gate_missing"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("margin", {"margin": 0.06}),
        ("margin", {"margin": 1.0}),
        ("split", {"split": "selection"}),
        ("limit", {"limit": 1}),
        ("reference", {"reference": "sibling"}),
    ],
)
async def test_a_gate_that_could_not_count_is_not_run(services: FlywheelServices, field: str, values: dict) -> None:
    version, sibling = tuned(services, 1), tuned(services, 2)
    values = {name: sibling.id if value == "sibling" else value for name, value in values.items()}
    datasets.insert(
        services.database,
        Dataset(id="ds", name="d", sha256="0", created_at=0.0, counts={}, provenance={}, approved=True),
    )
    asked = {"dataset": "ds", "labels": ("a", "b"), "candidate": version.id, "reference": "big"} | values
    request = msgspec.convert(asked | {"systems": [version.id, asked["reference"]]}, EvaluationRequest)
    with pytest.raises(InvalidRequest) as error:
        check(request, services)
    assert error.value.param == field


async def test_what_a_route_asks_is_not_rolled_back_to_what_never_passed(services: FlywheelServices) -> None:
    bad, good = tuned(services, 1), tuned(services, 2)
    promote(services, bad.id, "challenger", WHO)  # no route asks it yet
    evaluated(services, "held-out", good)
    promote(services, good.id, "challenger", WHO)
    services.catalog.put_route(route("own:challenger"))
    with pytest.raises(Conflict) as error:
        rollback(services, "own", "challenger", WHO)
    assert error.value.error_code == "gate_missing"
    assert services.catalog.resolve("own:challenger").version.id == good.id
    evaluated(services, "later", bad)
    assert rollback(services, "own", "challenger", WHO).version == bad.id  # type: ignore[union-attr]


async def test_a_champion_that_a_route_asks_is_not_rolled_back_to_nothing(services: FlywheelServices) -> None:
    good = tuned(services, 1)
    evaluated(services, "held-out", good)
    promote(services, good.id, "champion", WHO)
    services.catalog.put_route(route("own"))
    tuned(services, 2)  # what the bare name would mean without a champion
    with pytest.raises(Conflict) as error:
        rollback(services, "own", "champion", WHO)
    assert error.value.error_code == "alias_in_use"
    assert services.catalog.resolve("own").version.id == good.id


async def test_a_route_is_not_rolled_back_to_an_alias_that_moved_without_a_gate(services: FlywheelServices) -> None:
    good, bad = tuned(services, 1), tuned(services, 2)
    evaluated(services, "held-out", good)
    promote(services, good.id, "challenger", WHO)
    services.catalog.put_route(route("own:challenger"))
    services.catalog.put_route(route("big"))
    promote(services, bad.id, "challenger", WHO)  # no route asks it now
    with pytest.raises(Conflict) as error:
        rollback_route(services, "fresh", WHO)
    assert error.value.error_code == "gate_missing"
    assert services.catalog.route("fresh") == route("big")
    promote(services, good.id, "challenger", WHO)
    assert rollback_route(services, "fresh", WHO) == route("own:challenger")
