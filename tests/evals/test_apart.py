"""Text graders in processes of their own say what they say here, and end when they take too long."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bessemer.evals import graders
from bessemer.evals.apart import TextProcesses
from bessemer.evals.grader import GradeResult, GraderServices, Limits

OUTPUT = "{{sample.output_text}}"
HAN = "".join(chr(0x4E00 + index % 20_000) for index in range(32_000))


@pytest.fixture(scope="module")
def processes() -> Iterator[TextProcesses]:
    started = TextProcesses()
    yield started
    started.close()


def similarity(metric: str) -> dict[str, Any]:
    return {"type": "text_similarity", "input": OUTPUT, "reference": "{{item.r}}", "evaluation_metric": metric}


def check(operation: str, reference: str = "{{item.r}}") -> dict[str, Any]:
    return {"type": "string_check", "input": OUTPUT, "reference": reference, "operation": operation}


def graded(grader: dict[str, Any], sample: str, item: dict[str, Any], services: GraderServices) -> GradeResult:
    with graders.build(grader, services) as built:
        result = asyncio.run(built.grade(sample, item))
    return msgspec.structs.replace(result, execution_time=0.0)


@pytest.mark.parametrize(
    ("grader", "sample", "item"),
    [
        (similarity("gleu"), "the cat sat", {"r": "the cat"}),
        (similarity("rouge_l"), "猫が", {"r": "猫"}),
        (similarity("bleu"), "long " * 10_000, {"r": "a"}),
        (check("ilike"), "A b", {"r": "a"}),
        (check("eq"), "a", {}),
        (check("eq", "{{sample.output_json.a}}"), "no JSON", {}),
        ({"type": "feedback", "labels": ["yes", "no"]}, "yes", {"answer": "no", "verdict": False}),
        ({"type": "feedback"}, "a", {"answer": 5}),
        ({"type": "feedback"}, "a", {}),
        ({"type": "attributes"}, '{"a": "b"}', {"target": '{"a": ["b", "c"]}'}),
        ({"type": "attributes", "name": "mine"}, "[", {"target": {"a": "b"}}),
    ],
)
def test_a_grade_of_another_process_is_the_graders_own(
    processes: TextProcesses, grader: dict[str, Any], sample: str, item: dict[str, Any]
) -> None:
    assert graded(grader, sample, item, GraderServices(texts=processes.grade)) == graded(
        grader, sample, item, GraderServices()
    )


def test_parts_of_a_multi_grader_are_graded_there_too(processes: TextProcesses) -> None:
    multi = {"type": "multi", "graders": {"a": check("eq"), "b": similarity("gleu")}, "calculate_output": "a + b"}
    assert graded(multi, "x", {"r": "x"}, GraderServices(texts=processes.grade)).reward == 2.0


@pytest.mark.parametrize("limits", [Limits(wall_s=0.01), Limits(cpu_s=1, memory_mb=8)])
def test_what_takes_too_long_or_too_much_memory_is_unscorable(limits: Limits) -> None:
    processes = TextProcesses(limits)
    try:
        result = graded(similarity("gleu"), HAN, {"r": HAN[7:]}, GraderServices(texts=processes.grade))
    finally:
        processes.close()
    assert result.reward is None
    assert result.errors.other_error
    assert result.failure is not None
    assert "Limit" in result.failure.message or "Killed" in result.failure.message
