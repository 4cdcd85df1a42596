"""The OpenAPI document says what the table of endpoints says, and nothing in it leads nowhere."""

import json
import re
from typing import Any

import pytest
from tests.asking import ask
from tests.live import Server

from bessemer.core.access import project
from bessemer.core.openai_chat import ChatRequest
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.core.wire import JobObject
from bessemer.evals import graders
from bessemer.http.kinds import KINDS
from bessemer.http.surface import TABLE
from bessemer.identity.policy import RolePolicy, roles_that_may


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    status, body, _ = ask(server, "GET", "/openapi.json", server.key)
    assert status == 200
    return body


def test_every_endpoint_is_described_once(document: Any) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(line.method, line.path) for line in TABLE if line.path != "/openapi.json"}
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] for operation in operations)


def test_every_reference_leads_to_a_schema(document: Any) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])


def test_path_parameters_bodies_and_rights_are_those_of_the_table(document: Any) -> None:
    for line in TABLE[:-1]:
        operation = document["paths"][line.path][line.method.lower()]
        parameters = {(one["in"], one["name"]) for one in operation.get("parameters", ())}
        assert {name for kind, name in parameters if kind == "path"} == set(re.findall(r"{(\w+)}", line.path))
        assert {name for kind, name in parameters if kind == "query"} == set(line.query.__struct_fields__)
        assert ("requestBody" in operation) is (line.body is not None)
        assert operation.get("x-action") == line.action
        roles = () if line.action is None else roles_that_may(RolePolicy(), line.action, project(DEFAULT_PROJECT))
        assert operation.get("x-roles", []) == list(roles)


def test_a_chat_request_is_described_with_its_limits_and_its_stream(document: Any) -> None:
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    schema = document["components"]["schemas"]["ChatRequest"]
    assert set(schema["properties"]) == set(ChatRequest.__struct_fields__)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"model", "messages"}


def test_it_needs_a_key(server: Server) -> None:
    assert ask(server, "GET", "/openapi.json", None)[0] == 401


def fields_of(document: Any, name: str) -> Any:
    return document["components"]["schemas"][name]["properties"]


def test_methods_are_described_with_their_hyperparameters(document: Any) -> None:
    offered = document["components"]["schemas"]["TuningMethod"]["oneOf"]
    bodies = {one["properties"]["type"]["const"]: one for one in offered}
    assert set(bodies) == {"supervised", "reinforcement"}
    assert bodies["reinforcement"]["required"] == ["type", "reinforcement"]
    assert bodies["supervised"]["required"] == ["type"]
    body = bodies["reinforcement"]["properties"]["reinforcement"]["$ref"].rpartition("/")[2]
    ours = fields_of(document, body)["hyperparameters"]["$ref"].rpartition("/")[2]
    assert {"n_epochs", "batch_size", "compute_multiplier"} <= set(fields_of(document, ours))
    method = {"$ref": "#/components/schemas/TuningMethod"}
    assert method in fields_of(document, "FineTuningJobRequest")["method"]["anyOf"]
    assert fields_of(document, "FineTuningJob")["method"] == method


def test_a_grader_is_described_by_its_type_wherever_one_is_taken(document: Any) -> None:
    schemas = document["components"]["schemas"]
    mapping = schemas["Grader"]["discriminator"]["mapping"]
    assert set(mapping) == {kind.name for kind in graders.kinds()}
    for name, ref in mapping.items():
        fields = fields_of(document, ref.rpartition("/")[2])
        assert fields["type"] == {"const": name}
    grader = {"$ref": "#/components/schemas/Grader"}
    places = [one["properties"]["grader"] for one in schemas.values() if "grader" in one.get("properties", {})]
    assert len(places) >= 5
    assert all(place == grader or grader in place.get("anyOf", []) for place in places)
    assert grader in fields_of(document, "MultiSpec")["graders"]["anyOf"]


def test_jobs_are_described_with_what_they_were_asked_and_gave(document: Any) -> None:
    for kind in KINDS:
        if kind.shown is not JobObject:
            continue
        answer = document["paths"][kind.path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        name = answer["$ref"].rpartition("/")[2]
        whole, own = document["components"]["schemas"][name]["allOf"]
        assert whole == {"$ref": "#/components/schemas/JobObject"}
        assert own["properties"]["kind"] == {"const": kind.name}
        assert own["properties"]["request"]["$ref"].endswith(f"/{kind.request.__name__}")
        assert own["properties"]["result"]["anyOf"][0]["$ref"].endswith(f"/{kind.result.__name__}")
        one = document["paths"][kind.path + "/{job_id}"]["get"]["responses"]["200"]["content"]["application/json"]
        assert one["schema"] == answer
        page = document["paths"][kind.path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert page["allOf"][1]["properties"]["data"]["items"] == answer
