"""Embeddings with the real `openai` client: of an upstream as it gives them, and of the built-in encoder."""

import json
import math
import struct
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.asking import ask
from tests.engine.tiny_encoder import tiny_encoder
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from bessemer.engine.embedder import Embedder
from lab.fake_openai import Script, vector_of

CONFIG = """
[models.upstream]
provider = "openai"
base_url = "{base_url}"
price = "list"

[models.minilm]
provider = "encoder"
price = "here"

[prices.list]
source = "a test"
date = "2026-01-01"
input_per_million = 1.0
output_per_million = 2.0

[prices.here]
source = "a test"
date = "2026-01-01"
per_hour = 1.0

[routes.vectors]
targets = ["upstream"]
fallbacks = ["minilm"]
"""
SAID: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream, encoder: Path) -> Iterator[Server]:
    env = OFFLINE | {"BESSEMER_EMBEDDING_MODEL": str(encoder)}
    running = start_server(tmp_path_factory.mktemp("embeddings"), upstream, "--no-worker", env=env, toml=CONFIG)
    yield running
    stop_server(running)


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.openai()


def sent(server: Server) -> Any:
    return json.loads(server.upstream.fake.bodies[-1])


def as_float32(vector: list[float]) -> list[float]:
    return list(struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector)))


@pytest.mark.parametrize("form", ["float", "base64", None])
def test_an_upstreams_vectors_come_in_order_and_in_the_form_that_was_asked_for(
    server: Server, client: OpenAI, form: Any
) -> None:
    more = {} if form is None else {"encoding_format": form}
    answer = client.embeddings.create(model="upstream", input=["a", "b"], **more)
    asked_for = sent(server).get("encoding_format")
    assert sent(server)["input"] == ["a", "b"]
    assert asked_for == (form or "base64"), "the client's own default"
    for index, (one, text) in enumerate(zip(answer.data, ["a", "b"], strict=True)):
        assert one.index == index
        if form == "base64":
            assert list(struct.unpack("<8f", b64decode(one.embedding))) == as_float32(vector_of(text))  # type: ignore[arg-type]
        else:
            assert one.embedding == pytest.approx(vector_of(text))
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("upstream", 10, 10)
    kept: Any = client.get(f"/inferences/{answer.model_extra['bessemer']['inference_id']}", cast_to=object)  # type: ignore[index]
    assert [message["content"] for message in kept["messages"]] == ["a", "b"]
    assert (kept["output"], kept["input_tokens"], kept["output_tokens"]) == (None, 10, 0)
    assert kept["cost_usd"] == pytest.approx(10 / 1e6)


def test_nothing_is_added_to_what_the_client_sent(server: Server) -> None:
    body = {"model": "upstream", "input": "a text", "input_type": "query", "user": "u-1", "dimensions": 8}
    status, answer, headers = ask(server, "POST", "/v1/embeddings", server.key, json.dumps(body).encode())
    assert (status, sent(server)) == (200, body)
    assert answer["data"][0]["embedding"] == vector_of("a text")
    assert headers["x-bessemer-inference-id"] == answer["bessemer"]["inference_id"]


def test_tokens_go_to_an_upstream_and_to_no_other_model(server: Server, client: OpenAI) -> None:
    answer = client.embeddings.create(model="upstream", input=[[1, 2], [3]], encoding_format="float")
    assert sent(server)["input"] == [[1, 2], [3]]
    assert [one.embedding for one in answer.data] == [vector_of([1, 2]), vector_of([3])]
    client.embeddings.create(model="upstream", input=[5, 6], encoding_format="float")
    assert sent(server)["input"] == [5, 6]
    with pytest.raises(openai.BadRequestError, match="text alone"):
        client.embeddings.create(model="minilm", input=[1, 2])


def test_the_built_in_encoder_makes_vectors(client: OpenAI, encoder: Path) -> None:
    texts = ["the cat sits", "the dog runs"]
    answer = client.embeddings.create(model="minilm", input=texts)
    for one, vector in zip(answer.data, Embedder(encoder).embed(texts), strict=True):
        assert one.embedding == pytest.approx(vector, abs=1e-6)
    assert math.fsum(x * x for x in answer.data[0].embedding) == pytest.approx(1.0, abs=1e-5)
    assert answer.usage.prompt_tokens == 10, "three words and two marks each"
    kept: Any = client.get(f"/inferences/{answer.model_extra['bessemer']['inference_id']}", cast_to=object)  # type: ignore[index]
    assert 0 < kept["cost_usd"] < 1


def test_many_at_once_get_their_own_vectors(server: Server, encoder: Path) -> None:
    words = ["the", "cat", "sits", "dog", "runs"]
    wanted = dict(zip(words, Embedder(encoder).embed(words), strict=True))
    found: dict[int, tuple[str, Any]] = {}

    def one(number: int) -> None:
        word = words[number % len(words)]
        body = json.dumps({"model": "minilm", "input": "a " * 300 if number == 7 else word}).encode()
        found[number] = (word, ask(server, "POST", "/v1/embeddings", server.key, body))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (word, (status, answer, _)) in found.items():
        if number == 7:
            assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
        else:
            assert status == 200, answer
            assert answer["data"][0]["embedding"] == pytest.approx(wanted[word], abs=1e-5)


def test_a_route_falls_back(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.append(Script(status=503))
    answer = client.embeddings.create(model="vectors", input="the cat")
    assert (len(answer.data[0].embedding), answer.model) == (24, "vectors")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [["a"]]}, "input[0]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"bessemer": {"nothing": 1}}, "bessemer.nothing"),
        ({"model": "minilm", "dimensions": 3}, "dimensions"),
        ({"model": "minilm", "input_type": "query"}, "input_type"),
    ],
)
def test_what_cannot_be_is_refused_by_name(server: Server, more: dict[str, Any], param: str) -> None:
    body = json.dumps({"model": "upstream", "input": "a"} | more).encode()
    status, answer, _ = ask(server, "POST", "/v1/embeddings", server.key, body)
    assert (status, answer["error"]["param"]) == (400, param)


def test_a_model_does_one_or_the_other(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not answer conversations"):
        client.chat.completions.create(model="minilm", messages=SAID)


def test_no_example_is_made_of_a_vector(client: OpenAI) -> None:
    client.embeddings.create(model="vectors", input="a")
    body = {"name": "none", "route": "vectors"}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/datasets", body=body, cast_to=object)
    assert refused.value.param in {"route", None, "dataset", "name"}
