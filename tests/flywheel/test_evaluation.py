"""An evaluation that cannot be meant is refused before it runs."""

import asyncio
from pathlib import Path

import pytest

from bessemer.core.datasets import Dataset
from bessemer.core.errors import InvalidRequest
from bessemer.core.settings import Settings
from bessemer.core.wire import EvaluationRequest
from bessemer.flywheel.evaluation import check, file_name
from bessemer.runtime.compose import close_services, open_services
from bessemer.store import datasets

CONFIG = """
[models.small]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
"""


def test_two_systems_never_share_a_journal() -> None:
    names = [
        file_name(target) for target in ("m:champion", "m_champion", "m@champion", "x" * 300 + "1", "x" * 300 + "2")
    ]
    assert len(set(names)) == len(names)
    assert all(len(name) < 120 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("margin", {"margin": -0.5}),
        ("labels", {"labels": ("spam",)}),
        ("labels", {"labels": ("spam", "Spam.")}),
        ("limit", {"limit": 0}),
        ("limit", {"limit": -5}),
        ("temperature", {"temperature": 2.5}),
        ("reference", {"candidate": "small", "reference": "small"}),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_name(tmp_path: Path, field: str, values: dict) -> None:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    services = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    dataset = Dataset(id="ds", name="d", sha256="0", created_at=0.0, counts={}, provenance={}, files={})
    datasets.insert(services.database, dataset)
    asked = {"dataset": "ds", "systems": ["small"], "labels": ("Yes", "No")}
    assert check(EvaluationRequest(**asked), services.flywheel) == dataset
    with pytest.raises(InvalidRequest) as refused:
        check(EvaluationRequest(**(asked | values)), services.flywheel)
    assert refused.value.param == field
    await close_services(services)
