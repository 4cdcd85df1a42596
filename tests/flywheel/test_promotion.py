"""A champion has passed its gate, on items that it was not trained on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bessemer.core.errors import Conflict
from bessemer.core.settings import Settings
from bessemer.core.types import Evaluation, GateResult, Principal, Role, Split
from bessemer.flywheel.promotion import promote
from bessemer.flywheel.services import Services
from bessemer.server.compose import close_services, open_services
from bessemer.store import audit, evaluations

CONFIG = """
[models.small]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
"""
WHO = Principal(key_id="key", name="someone", role=Role.OWNER)


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    opened = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    yield opened.flywheel
    await close_services(opened)


def evaluated(services: Services, name: str, *, passed: bool, split: Split = Split.HOLDOUT, at: float = 1.0) -> None:
    version = services.catalog.resolve("small").version.id
    gate = GateResult(
        passed=passed, rule="not worse", difference=None, margin=0.0, candidate=version, reference="other"
    )
    row = Evaluation(id=name, dataset="ds", split=split, metric="accuracy", created_at=at, rows=(), gate=gate)
    evaluations.insert(services.database, row)


def champion(services: Services, evaluation: str | None = None) -> str | None:
    version = services.catalog.resolve("small").version.id
    return promote(services, version, "champion", WHO, evaluation_id=evaluation).version


async def test_a_version_without_a_gate_is_no_champion(services: Services) -> None:
    with pytest.raises(Conflict, match="no evaluation with a gate") as refused:
        champion(services)
    assert refused.value.error_code == "gate_missing"
    assert services.catalog.aliases() == []


async def test_the_newest_gate_decides(services: Services) -> None:
    evaluated(services, "first", passed=True, at=1.0)
    evaluated(services, "second", passed=False, at=2.0)
    with pytest.raises(Conflict, match="second") as refused:
        champion(services)
    assert refused.value.error_code == "gate_failed"


@pytest.mark.parametrize("named", ["learned", None])
async def test_what_it_was_trained_on_proves_nothing(services: Services, named: str | None) -> None:
    evaluated(services, "learned", passed=True, split=Split.TRAIN)
    with pytest.raises(Conflict) as refused:
        champion(services, named)
    assert refused.value.error_code == "gate_missing"


async def test_the_audit_event_names_the_evaluation_that_decided(services: Services) -> None:
    evaluated(services, "held-out", passed=True)
    assert champion(services) == services.catalog.resolve("small").version.id
    event = next(row for row in audit.find(services.database) if row.action == "version.promoted")
    assert event.detail["evaluation"] == "held-out"
