"""Fields that cost by their number or length are bounded, and the refusal names them; what is usual is taken."""

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.asking import ask
from tests.live import Server

from bessemer.core.routes import Guarantee
from bessemer.http.surface import TABLE

CHAT = "/v1/chat/completions"
VALIDATE = "/v1/fine_tuning/alpha/graders/validate"
CHECK = {"type": "string_check", "name": "c", "operation": "eq", "input": "a", "reference": "a"}
MIB = 1 << 20
ASKED = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
LONG = "n" * 257
CONTENT = {
    ("EmbeddingRequest", "input"),
    ("MessageRequest", "stop_sequences"),
    ("MessageRequest", "system"),
    ("ResponseRequest", "input"),
    ("ResponseRequest", "instructions"),
    ("ChatRequest", "stop"),
    ("ChatRequest", "logit_bias"),
    ("StructuredOutputs", "choice"),
    ("StructuredOutputs", "regex"),
    ("StructuredOutputs", "grammar"),
    ("FeedbackRequest", "value"),
    ("GraderRunBody", "model_sample"),
}
"""Texts that are what a request is about, with bounds of their own where they cost."""


def unbounded(kind: msgspec.inspect.Type, where: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Yield where a type has a text or a dictionary of texts of any length."""
    match kind:
        case msgspec.inspect.StrType(max_length=None):
            yield where
        case msgspec.inspect.DictType(key_type=key, value_type=value, max_length=longest):
            if isinstance(key, msgspec.inspect.StrType) and not isinstance(value, msgspec.inspect.AnyType):
                yield from [where] if longest is None else []
                yield from (*unbounded(key, where), *unbounded(value, where))
        case msgspec.inspect.UnionType(types=types):
            for one in types:
                yield from unbounded(one, where)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(item_type=item):
            yield from unbounded(item, where)
        case msgspec.inspect.StructType(cls=cls, fields=fields):
            for field in fields:
                yield from unbounded(field.type, (cls.__name__, field.encode_name))


def test_no_body_and_no_query_takes_a_name_of_any_length() -> None:
    kinds = {kind for line in TABLE for kind in (line.body, line.query) if kind is not None}
    found = {where for kind in kinds for where in unbounded(msgspec.inspect.type_info(kind), ("", ""))}
    found = {(cls, name) for cls, name in found if cls != Guarantee.__name__}  # refused as a whole
    assert found - CONTENT == set()


def post(server: Server, path: str, body: Any) -> tuple[int, Any]:
    status, answer, _ = ask(server, "POST", path, server.key, json.dumps(body).encode())
    return status, answer


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/routes", {"name": "many", "targets": ["upstream"] * 101}, "targets"),
        ("/v1/routes", {"name": "many", "targets": ["upstream"], "fallbacks": ["upstream"] * 100}, "targets"),
        (
            "/v1/fine_tuning/alpha/graders/validate",
            {
                "grader": {
                    "type": "score_model",
                    "name": "j",
                    "model": "assistant",
                    "input": [{"role": "user", "content": "{{sample.output_text}}"}] * 101,
                    "range": [0, 1],
                }
            },
            "grader.input",
        ),
        ("/v1/erasures", {"tags": {f"k{i}": "v" for i in range(17)}}, "tags"),
        (CHAT, ASKED | {"metadata": {f"k{i}": "v" for i in range(17)}}, "metadata"),
        (CHAT, ASKED | {"metadata": {"k" * 65: "v"}}, "metadata"),
        (CHAT, ASKED | {"bessemer": {"tags": {"k": "v" * 513}}}, "bessemer.tags.*"),
        (CHAT, ASKED | {"user": "u" * 513}, "user"),
        ("/v1/datasets", {"name": "d" * 257}, "name"),
        ("/v1/keys", {"name": "k", "models": ["m" * 257]}, "models.0"),
        (
            "/v1/feedback",
            {"inference_id": f"inf-{0:032}", "metric": "verdict", "value": True, "author": LONG},
            "author",
        ),
        ("/v1/routes", {"name": "r", "targets": ["upstream"], "reason": "r" * 4097}, "reason"),
        ("/v1/routes", {"name": "r", "targets": [{"model": LONG}]}, "targets.0.model"),
        ("/v1/evaluations", {"dataset": "d", "systems": ["s"], "labels": ["l" * 2001, "no"]}, "labels.0"),
        ("/v1/fine_tuning/jobs", {"model": "m", "training_file": "f", "metadata": {"k": "v" * 513}}, "metadata.*"),
        (
            "/v1/fine_tuning/alpha/graders/validate",
            {"grader": {"type": "string_check", "name": LONG, "input": "a", "reference": "b", "operation": "eq"}},
            "grader",
        ),
        (CHAT, ASKED | {"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        (VALIDATE, {"grader": CHECK | {"input": "a" * 64_001}}, "grader.input"),
        (VALIDATE, {"grader": CHECK | {"reference": "{{item.a}} " * 6_000}}, "grader.reference"),
    ],
)
def test_many_of_a_field_are_refused(server: Server, path: str, body: dict[str, Any], param: str) -> None:
    status, answer = post(server, path, body)
    assert (status, answer["error"]["param"]) == (400, param)


@pytest.mark.parametrize("path", ["/v1/inferences", "/v1/usage", "/v1/feedback", "/v1/audit"])
@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e12"])
def test_a_time_is_a_time(server: Server, path: str, text: str) -> None:
    status, answer, _ = ask(server, "GET", f"{path}?since={text}", server.key)
    assert (status, answer["error"]["param"]) == (400, "since")


PART = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": [PART] * 50_000}]},
        {"messages": [{"role": "user", "content": "a"}] * 50_000},
        {"logit_bias": {str(i): 1 for i in range(200_000)}},
        {"metadata": {str(i): "v" for i in range(200_000)}},
        {"bessemer": {"input": {"a": [[]] * 50_000}}},
        {"tools": [1] * 200_000},
        {"unknown": [1] * 200_000},
    ],
)
def test_many_values_of_any_field_are_refused_before_they_are_decoded(server: Server, more: dict[str, Any]) -> None:
    status, answer = post(server, CHAT, ASKED | more)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert "values" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/keys", 1), ("/v1/routes", 1), ("/v1/feedback", 1), ("/v1/datasets", 1), ("/v1/plans", 1), (VALIDATE, 4)],
)
def test_bodies_of_control_endpoints_are_small(server: Server, path: str, limit: int) -> None:
    begun = time.monotonic()
    status, answer = post(server, path, {"name": "n" * (limit * MIB)})
    assert (status, answer["error"]["message"].startswith("The request body exceeds")) == (413, True)
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("name", ["a" * MIB, "é" * MIB, '"' * MIB])
def test_what_is_quoted_in_an_error_is_cut(server: Server, name: str) -> None:
    for body in (ASKED | {name: 1}, ASKED | {"seed": name}, ASKED | {"messages": [{"role": name, name: 1}]}):
        status, answer = post(server, CHAT, body)
        assert status == 400
        assert len(answer["error"]["message"]) <= 4_000
        assert len(answer["error"]["param"]) <= 200


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": role, "content": "hi"} for role in ("user", "assistant")] * 500 + ASKED["messages"]},
        {"messages": [{"role": "user", "content": [PART] * 1_000}]},
        {"messages": [{"role": "user", "content": "word " * 800_000}]},
        {"logit_bias": {str(i): 1 for i in range(1_000)}},
        {"metadata": {f"key {i}": "v" * 512 for i in range(16)}},
        {"stop": ["a" * 1_024] * 4},
        {"messages": [{"role": "user", "content": "\\n\U0001f642" * (MIB)}]},
        {"structured_outputs": {"regex": "a" * 64_000}},
        {"structured_outputs": {"json": {"enum": ["a" * 900_000]}}},
    ],
)
def test_what_clients_send_is_taken(server: Server, more: dict[str, Any]) -> None:
    status, answer = post(server, CHAT, ASKED | more)
    assert status == 200, answer


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"stop": "a" * 1025}, "stop"),
        ({"stop": ["a", "é" * 1025]}, "stop"),
        ({"stop": "word " * (2 * MIB)}, "stop"),
        ({"structured_outputs": {"regex": "a" * 64_001}}, "structured_outputs"),
        ({"structured_outputs": {"grammar": "é" * 32_001}}, "structured_outputs"),
        ({"structured_outputs": {"json": {"enum": ["a" * MIB]}}}, "structured_outputs"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["a" * MIB]}}}},
            "response_format",
        ),
    ],
)
def test_what_binds_an_answer_is_bounded_whichever_model_is_asked(
    server: Server, more: dict[str, Any], param: str
) -> None:
    status, answer = post(server, CHAT, ASKED | more)
    assert (status, answer["error"]["param"]) == (400, param)
    assert len(answer["error"]["message"]) < 200


def test_an_image_is_refused_for_what_it_is_not_for_its_size(server: Server) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * (10 * MIB // 8)}}
    status, answer = post(server, CHAT, {"model": "small", "messages": [{"role": "user", "content": [image]}]})
    assert (status, answer["error"]["code"]) == (400, "unsupported_by_model")


def test_a_row_of_a_file_is_bounded(server: Server) -> None:
    row = b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"a" * (16 * MIB))
    form = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n' + (
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n' + row + b"\r\n--x--\r\n"
    )
    status, answer, _ = ask(server, "POST", "/v1/files", server.key, form, "multipart/form-data; boundary=x")
    assert (status, answer["error"]["param"]) == (400, "file")
    assert "row 1: it has more than" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "param"),
    [
        ("GET", "/v1/inferences?route=a%00b", 400, "route"),
        ("GET", "/v1/audit?action=a%00b", 400, "action"),
        ("GET", "/v1/files/a%00b", 404, None),
        ("DELETE", "/v1/datasets/a%00b", 404, None),
    ],
)
def test_a_nul_is_refused_by_name_whichever_database_there_is(
    server: Server, method: str, path: str, status: int, param: str | None
) -> None:
    found, answer, _ = ask(server, method, path, server.key)
    assert (found, answer["error"]["param"]) == (status, param)


def test_a_name_holds_no_nul(server: Server) -> None:
    status, answer = post(server, "/v1/datasets", {"name": "a\0b"})
    assert (status, answer["error"]["param"]) == (400, "name")
