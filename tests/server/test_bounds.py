"""Fields that cost by their number are bounded, and the refusal names them."""

import json
from typing import Any

import pytest
from tests.server.asking import ask
from tests.server.live import Server


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
    ],
)
def test_many_of_a_field_are_refused(server: Server, path: str, body: dict[str, Any], param: str) -> None:
    status, answer, _ = ask(server, "POST", path, server.key, json.dumps(body).encode())
    assert (status, answer["error"]["param"]) == (400, param)
