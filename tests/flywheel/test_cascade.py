"""A cascade goes into force once, however often its job is killed at that moment."""

import asyncio
from pathlib import Path

import pytest

from bessemer.core.evaluations import CascadeResult
from bessemer.core.routes import Calibration
from bessemer.core.settings import Settings
from bessemer.core.wire import CascadeRequest
from bessemer.flywheel import cascade
from bessemer.runtime.compose import close_services, open_services

CONFIG = """
[models.small]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
price = "none"

[models.large]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
price = "none"

[prices.none]
source = "a test"
date = "2026-01-01"
per_hour = 0.0

[routes.matching]
targets = ["large"]
"""


@pytest.mark.parametrize("applied", [True, False])
async def test_a_cascade_put_in_force_again_is_rolled_back_in_one_step(tmp_path: Path, applied: bool) -> None:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    services = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    catalog = services.catalog
    before, small = catalog.route("matching"), catalog.resolve("small").version.id
    request = CascadeRequest(route="matching", small="small", large="large", dataset="ds")
    result = CascadeResult(
        route="matching",
        small=small,
        large="large",
        threshold=2 / 3,
        accepted_share=0.5,
        guarantee=None,
        calibration=Calibration(version=small, score="mean_logprob", dataset_sha256="", x=(-1 / 3, 0.0), y=(0.1, 0.7)),
        curve=(),
        expected_calibration_error=0.0,
        reliability=(),
        applied=applied,
    )
    for _ in range(2):
        cascade.apply(services.flywheel, request, result, "cascade-1")
    assert ("matching" in catalog.routes_changed_at()) == applied
    if applied:
        assert catalog.route("matching").steps[0].threshold == 2 / 3
        catalog.rollback_route("matching")
    assert catalog.route("matching") == before
    await close_services(services)
