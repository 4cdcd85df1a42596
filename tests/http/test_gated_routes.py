"""Through the API: routes ask no tuned version without a gate, and nobody writes a guarantee by hand."""

import json
from typing import Any

import pytest
from tests.asking import ask, key_of
from tests.live import Server

from bessemer.core.models import Lineage
from bessemer.registry.versions import make_version
from bessemer.store import versions
from bessemer.store.database import Database

GUARANTEE = {"metric": "accuracy", "method": "none", "alpha": 0.0, "delta": 0.0, "n": 1, "dataset_sha256": "0"}


def put(server: Server, key: str, body: dict[str, Any]) -> tuple[int, Any]:
    status, answer, _ = ask(server, "POST", "/v1/routes", key, json.dumps(body).encode())
    return status, answer


@pytest.fixture(scope="module")
def tuned(server: Server) -> str:
    database = Database.open_url(f"sqlite:///{server.data / 'bessemer.db'}")
    base = next(one for one in versions.find(database)["proj_default"] if one.model == "small")
    lineage = Lineage(base=base.id, method="sft", job_id="ftjob-1")
    version = make_version("ungated", adapter_sha256="0" * 64, lineage=lineage)
    versions.insert(database, version)
    database.close()
    return version.id


def test_a_guarantee_is_not_written_by_hand(server: Server) -> None:
    body = {"name": "promised", "targets": ["small"], "guarantee": GUARANTEE | {"statement": "never wrong"}}
    status, answer = put(server, server.key, body)
    assert (status, answer["error"]["param"]) == (400, "guarantee")


def test_an_ungated_version_is_asked_when_an_owner_says_why(server: Server, tuned: str) -> None:
    status, answer = put(server, server.key, {"name": "risky", "targets": [tuned]})
    assert (status, answer["error"]["code"]) == (409, "gate_missing")
    forced = {"name": "risky", "targets": [tuned], "force": True}
    status, answer = put(server, server.key, forced)
    assert (status, answer["error"]["param"]) == (400, "reason")
    operator = key_of(server, "operator")
    assert put(server, operator, forced | {"reason": "I like it"})[0] == 403
    status, answer = put(server, server.key, forced | {"reason": "an outage of the large model"})
    assert status == 200, answer
    _, trail, _ = ask(server, "GET", "/v1/audit?limit=20", server.key)
    event = next(row for row in trail["data"] if tuned in json.dumps(row) and "route" in json.dumps(row))
    assert "an outage of the large model" in json.dumps(event)
