"""A key that is limited to some models, or of another project, is told no other model's or route's name."""

import json
from typing import Any

import pytest
from tests.asking import ask, key_of, upload
from tests.live import Server, server, upstream

__all__ = ["server", "upstream"]

OTHERS = ("upstream", "small", "secret-route")
JUDGE = {"type": "score_model", "input": [{"role": "user", "content": "a"}], "range": [0, 1]}
VALIDATE, RUN = "/v1/fine_tuning/alpha/graders/validate", "/v1/fine_tuning/alpha/graders/run"
METRIC = {"metric": "accuracy", "labels": ["a", "b"]}


def told(server: Server, key: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    status, answer, _ = ask(server, "POST", path, key, json.dumps(body).encode())
    return status, json.dumps(answer)


@pytest.fixture(scope="module")
def route(server: Server) -> None:
    body = {"name": "secret-route", "targets": ["upstream"]}
    assert told(server, server.key, "/v1/routes", body)[0] == 200


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("name", ["nonesuch", "assistant@000000000000", "assistant:nonesuch"])
def test_a_limited_key_learns_no_name_from_a_refusal(server: Server, name: str) -> None:
    key = key_of(server, "owner", models=["assistant", "nonesuch"])
    rows = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "a"}]} for n in range(40)
    ]
    file = upload(server, key, *rows)
    status, answer, _ = ask(server, "POST", "/v1/datasets", key, json.dumps({"name": "d", "file_id": file}).encode())
    assert status == 200, answer
    dataset = {"dataset": answer["id"]}
    tuned = {"model": name, "training_file": file, "method": {"type": "supervised", "supervised": {}}}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "a"}]}),
        (VALIDATE, {"grader": JUDGE | {"model": name}}),
        (RUN, {"grader": JUDGE | {"model": name}, "model_sample": "a"}),
        ("/v1/evaluations", dataset | METRIC | {"systems": [name]}),
        (
            "/v1/evaluations",
            dataset | {"systems": ["assistant"], "metric": "reward", "grader": JUDGE | {"model": name}},
        ),
        ("/v1/cascades", dataset | METRIC | {"route": "assistant", "small": name, "large": "assistant"}),
        ("/v1/fine_tuning/jobs", tuned),
        ("/v1/routes", {"name": "nonesuch", "targets": [name]}),
        ("/v1/datasets", {"name": "d", "prompt": name}),
    ]
    for path, body in bodies:
        status, answer = told(server, key, path, body)
        assert status in (400, 404), (path, answer)
        assert not [other for other in OTHERS if other in answer], (path, answer)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("path", [VALIDATE, RUN])
def test_a_judge_is_one_that_the_key_may_ask(server: Server, path: str) -> None:
    """What is there and not for the key is answered like what is not there."""
    limited, elsewhere = key_of(server, "member", models=["assistant"]), key_of(server, "member", project="elsewhere")
    for key, name in ((limited, "secret-route"), (elsewhere, "secret-route")):
        answers = [
            told(
                server,
                key,
                path,
                {"grader": JUDGE | {"model": model}, "model_sample": "a"}
                if path == RUN
                else {"grader": JUDGE | {"model": model}},
            )
            for model in (name, "nonesuch-xyz")
        ]
        assert [status for status, _ in answers] == [400, 400]
        assert answers[0][1].replace(name, "") == answers[1][1].replace("nonesuch-xyz", "")
        assert "secret-route" not in answers[1][1]
