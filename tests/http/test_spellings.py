"""Clients that spell paths and keys otherwise, and web pages of other origins."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AzureOpenAI, OpenAI
from tests.asking import ask
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from bessemer.core.settings import load_settings
from bessemer.http.paths import MeantPath, Spellings
from bessemer.http.surface import TABLE

SAID: Any = [{"role": "user", "content": "hi"}]
PAGE = "https://app.example.org"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/chat/completions", MeantPath("/v1/chat/completions")),
        ("/chat/completions", MeantPath("/v1/chat/completions")),
        ("/models/a/b", MeantPath("/v1/models/a/b")),
        ("/openai/v1/chat/completions", MeantPath("/v1/chat/completions")),
        ("/openai/files/file-1", MeantPath("/v1/files/file-1")),
        ("/openai/deployments/my%20gpt/chat/completions", MeantPath("/v1/chat/completions", "my gpt")),
        ("/healthz", MeantPath("/healthz")),
        ("/metrics", MeantPath("/metrics")),
        ("/v1/v1/models", MeantPath("/v1/v1/models")),
        ("/nothing", MeantPath("/nothing")),
        ("/", MeantPath("/")),
        ("*", MeantPath("*")),
        ("", MeantPath("")),
        ("models", MeantPath("models")),
    ],
)
def test_a_path_means_an_endpoint_however_it_is_spelled(path: str, meant: MeantPath) -> None:
    assert Spellings(line.path for line in TABLE).meant(path) == meant


def test_a_client_needs_no_v1(server: Server) -> None:
    with OpenAI(base_url=server.url, api_key=server.key, max_retries=0) as client:
        assert client.chat.completions.create(model="assistant", messages=SAID).choices[0].message.content == "ok"
        assert "assistant" in {model.id for model in client.models.list()}


def test_azures_client_asks_the_deployment_that_its_url_names(server: Server) -> None:
    with AzureOpenAI(azure_endpoint=server.url, api_key=server.key, api_version="2024-10-21", max_retries=0) as client:
        assert client.chat.completions.create(model="assistant", messages=SAID).choices[0].message.content == "ok"
        pieces = client.chat.completions.create(model="assistant", messages=SAID, stream=True)
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "ok"
    with AzureOpenAI(
        azure_endpoint=server.url,
        azure_deployment="assistant",
        api_key=server.key,
        api_version="2024-10-21",
        max_retries=0,
    ) as client:
        answer = client.chat.completions.create(model="whatever", messages=SAID)
        assert (answer.model, answer.choices[0].message.content) == ("assistant", "ok")


def test_azures_body_needs_no_model(server: Server) -> None:
    path = "/openai/deployments/assistant/chat/completions?api-version=2024-10-21"
    body = json.dumps({"messages": SAID}).encode()
    status, answer, _ = ask(server, "POST", path, None, body, headers={"api-key": server.key})
    assert (status, answer["model"]) == (200, "assistant")
    status, answer, _ = ask(server, "POST", "/v1/chat/completions", server.key, body)
    assert (status, answer["error"]["param"]) == (400, "model")


def test_a_key_stands_in_one_header(server: Server) -> None:
    status, answer, _ = ask(server, "GET", "/v1/models", server.key, headers={"api-key": "another"})
    assert (status, answer["error"]["param"]) == (400, "Authorization")
    assert ask(server, "GET", "/v1/models", None, headers={"x-api-key": server.key})[0] == 200
    assert ask(server, "GET", "/v1/models", None, headers={"api-key": "bsm-wrong"})[0] == 401


@pytest.fixture
def open_server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    env = OFFLINE | {"BESSEMER_CORS_ORIGINS": f"{PAGE},https://other.example.org"}
    running = start_server(tmp_path, upstream, "--no-worker", env=env)
    yield running
    stop_server(running)


def test_a_page_of_a_listed_origin_may_ask(open_server: Server) -> None:
    asks = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    status, _, headers = ask(open_server, "OPTIONS", "/v1/chat/completions", None, headers=asks)
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert "authorization" in headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in headers
    body = json.dumps({"model": "assistant", "messages": SAID}).encode()
    status, _, headers = ask(
        open_server, "POST", "/v1/chat/completions", open_server.key, body, headers={"origin": PAGE}
    )
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert "x-bessemer-inference-id" in headers["access-control-expose-headers"]
    status, _, headers = ask(open_server, "GET", "/v1/models", None, headers={"origin": PAGE})
    assert (status, headers["access-control-allow-origin"]) == (401, PAGE), "a script may read why it was refused"


def test_a_page_of_another_origin_may_not(open_server: Server) -> None:
    asks = {"origin": "https://evil.example.org", "access-control-request-method": "POST"}
    status, _, headers = ask(open_server, "OPTIONS", "/v1/chat/completions", None, headers=asks)
    assert status == 400
    assert "access-control-allow-origin" not in headers


def test_no_page_may_ask_by_default(server: Server) -> None:
    assert load_settings(environ={}).cors_origins == ()
    _, _, headers = ask(server, "GET", "/v1/models", server.key, headers={"origin": PAGE})
    assert "access-control-allow-origin" not in headers
