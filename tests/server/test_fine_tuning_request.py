"""Ranges, methods and training rows that a fine-tuning request must satisfy."""

from typing import Any

import msgspec
import pytest

from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import FineTuningJobRequest
from bessemer.tuning.checks import method_of

GRADER = {"type": "string_check", "name": "g", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}


def request(**fields: Any) -> FineTuningJobRequest:
    return msgspec.convert({"model": "m", "training_file": "file-1"} | fields, FineTuningJobRequest)


def test_no_method_means_supervised_with_the_deprecated_hyperparameters() -> None:
    method = method_of(request(hyperparameters={"n_epochs": 3}))
    assert method.type == "supervised"
    assert method.supervised is not None
    assert method.supervised.hyperparameters.n_epochs == 3


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("supervised", "n_epochs", 0),
        ("supervised", "n_epochs", 51),
        ("supervised", "batch_size", 257),
        ("supervised", "learning_rate_multiplier", 0),
        ("reinforcement", "compute_multiplier", 11),
        ("reinforcement", "compute_multiplier", 0.0),
        ("reinforcement", "eval_interval", 0),
        ("reinforcement", "eval_samples", 0),
        ("reinforcement", "eval_samples", 4),
        ("reinforcement", "reasoning_effort", "high"),
    ],
)
def test_a_hyperparameter_out_of_range_is_named(kind: str, name: str, value: float) -> None:
    body: dict[str, Any] = {"hyperparameters": {name: value}}
    if kind == "reinforcement":
        body["grader"] = GRADER
    with pytest.raises(InvalidRequest) as caught:
        method_of(request(method={"type": kind, kind: body}))
    assert caught.value.param == f"method.{kind}.hyperparameters.{name}"


@pytest.mark.parametrize(
    ("method", "param"),
    [
        ({"type": "dpo", "dpo": {}}, "method.type"),
        ({"type": "reinforcement"}, "method.reinforcement"),
        (
            {"type": "reinforcement", "reinforcement": {"grader": GRADER, "response_format": {"type": "json_object"}}},
            "method.reinforcement.response_format",
        ),
        ({"type": "supervised", "reinforcement": {"grader": GRADER}}, "method.reinforcement"),
    ],
)
def test_a_method_needs_its_own_body_and_no_other(method: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        method_of(request(method=method))
    assert caught.value.param == param
