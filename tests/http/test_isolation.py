"""Graders that run code, where the kernel cannot keep it from the data folder: refused, unless a setting allows it."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.evals.other_machine import other_machine
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

UNFENCED = other_machine("without-landlock", "without-namespaces")
THIEF = "def grade(sample, item): return float(len(open(item['path']).read()))"
CODE = {"type": "python", "name": "thief", "source": THIEF}


def member(server: Server) -> OpenAI:
    made: Any = server.openai().post("/keys", body={"name": "mallory", "role": "member"}, cast_to=object)
    return server.openai(made["key"])


def steal(client: OpenAI, path: Path) -> Any:
    body = {"grader": CODE, "model_sample": "", "item": {"path": str(path)}}
    return client.post("/fine_tuning/alpha/graders/run", body=body, cast_to=object)


def told(server: Server) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "graders.isolation"]


def test_without_a_fence_a_member_cannot_name_code(tmp_path: Path, upstream: Upstream) -> None:
    server = start_server(tmp_path, upstream, "--no-worker", under=UNFENCED)
    client = member(server)
    refusals = []
    for ask in (
        lambda: steal(client, server.data / "admin.key"),
        lambda: client.post("/fine_tuning/alpha/graders/validate", body={"grader": CODE}, cast_to=object),
        lambda: client.fine_tuning.jobs.create(
            model="small",
            training_file="file-none",
            method={"type": "reinforcement", "reinforcement": {"grader": CODE}},  # type: ignore[typeddict-item]
        ),
    ):
        with pytest.raises(openai.BadRequestError, match="unfenced_graders") as refused:
            ask()
        refusals.append(refused.value.param)
    ready: Any = client.get(f"{server.url}/readyz", cast_to=object)
    stop_server(server)
    assert refusals == ["grader.type"] * 3
    assert (ready["graders"]["code_graders"], ready["graders"]["fenced"]) == ("refused", False)
    assert [(line["level"], line["files"], line["code_graders"]) for line in told(server)] == [
        ("warning", "open", "refused")
    ]


def test_without_a_fence_a_setting_allows_code(tmp_path: Path, upstream: Upstream) -> None:
    allowed = {**OFFLINE, "BESSEMER_UNFENCED_GRADERS": "true"}
    server = start_server(tmp_path, upstream, "--no-worker", under=UNFENCED, env=allowed)
    # Another account of the machine, where the service may give one, reads what everyone may.
    seen = steal(member(server), Path("/etc/passwd"))
    stop_server(server)
    assert seen["reward"] > 0, seen
    assert [(line["level"], line["code_graders"]) for line in told(server)] == [("warning", "run")]


def test_a_server_tells_once_what_keeps_code_in(server: Server) -> None:
    assert len(told(server)) == 1
    ready: Any = server.openai().get(f"{server.url}/readyz", cast_to=object)
    assert ready["graders"]["code_graders"] == "run"
    assert ready["graders"]["files"] in {"private root", "landlock"}
    assert ready["graders"]["system_calls"] == "filtered"
