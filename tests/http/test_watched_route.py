"""A cascade whose rung goes wrong on a real server: audited requests, verdicts, and the next request is handed over."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.flywheel.test_watch import cascade, rung
from tests.live import Server, Upstream, start_server, stop_server

from bessemer.core.routes import Monitor
from bessemer.core.settings import Settings
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.database import Database


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path, upstream, "--no-worker")
    yield running
    stop_server(running)


def test_l25_the_request_after_the_alarm_is_handed_over_and_an_administrator_brings_the_rung_back(
    server: Server, tmp_path: Path
) -> None:
    database = Database.open(Settings(data=server.data))
    catalog = Catalog(load_config(tmp_path / "bessemer.toml", server.data, SETTINGS), database)
    version = rung(catalog, BlobFolder(server.data / "blobs")).id
    database.close()
    client = server.openai()
    route = cascade(version, Monitor(alpha=0.05, audit_share=1.0), last="upstream")
    body = msgspec.to_builtins(route) | {"name": None, "force": True, "reason": "a test"}
    del body["fallback"]
    client.put("/routes/matching", body=body, cast_to=object)

    def ask() -> Any:
        return client.chat.completions.create(model="matching", messages=[{"role": "user", "content": "the same?"}])

    asked = 0
    while (answer := ask()).bessemer["version"] == version:
        assert answer.choices[0].message.content == "Yes"
        assert answer.bessemer["feedback_wanted"]
        verdict = {"inference_id": answer.bessemer["inference_id"], "metric": "verdict", "value": False}
        client.post("/feedback", body=verdict, cast_to=object)
        asked += 1
        assert asked < 30
    assert answer.bessemer["escalated"]
    assert answer.bessemer["feedback_wanted"], "the audit is of all requests"
    shown: Any = client.get("/routes/matching/monitor", cast_to=object)
    assert shown["rungs"][0]["action"] == "raised"
    assert shown["rungs"][0]["threshold"] == pytest.approx(0.925)
    found: Any = client.get("/routes/matching", cast_to=object)
    assert found["fallback"]["rungs"][version]["step"] == 1
    metrics: Any = client.get(server.url + "/metrics", cast_to=str)
    assert f'bessemer_rung_fallback{{project="proj_default",route="matching",rung="{version}"}} 1.0' in metrics
    told: Any = client.get("/audit?action=route.fell_back", cast_to=object)
    assert [one["subject"] for one in told["data"]] == ["matching"]
    assert "route.fell_back" in server.log.read_text()
    client.post("/routes/matching/rollback", body={"reason": "mended"}, cast_to=object)
    assert ask().bessemer["version"] == version
    late = time.time()
    shown = client.get("/routes/matching/monitor", cast_to=object)
    assert shown["rungs"][0]["audited"] == 0
    assert shown["since"] <= late
