"""Fields that cost by their number are bounded, and the refusal names them."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.server.asking import ask
from tests.server.live import Server

from bessemer.core.types import Guarantee
from bessemer.server.surface import TABLE

CHAT = "/v1/chat/completions"
ASKED = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
LONG = "n" * 257
CONTENT = {
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
    ],
)
def test_many_of_a_field_are_refused(server: Server, path: str, body: dict[str, Any], param: str) -> None:
    status, answer, _ = ask(server, "POST", path, server.key, json.dumps(body).encode())
    assert (status, answer["error"]["param"]) == (400, param)
