"""Grader kinds through `build` and `grade`: OpenAI's contract, its traps, and Bessemer's own two."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.errors import GraderError
from bessemer.evals.grader import Embed, GraderErrors, GradeResult, GraderServices, JudgeCall, JudgeReply
from bessemer.evals.graders import build, check, grade_batch
from bessemer.evals.judge import parse_score


def run(grader: dict[str, Any], sample: str, item: dict[str, Any] | None = None, **services: Any) -> GradeResult:
    with build(grader, GraderServices(**services)) as built:
        return grade_batch(built, [(sample, item or {})])[0]


def string_check(operation: str = "eq", **fields: Any) -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": "label",
        "input": "{{sample.output_text}}",
        "reference": "{{item.label}}",
        "operation": operation,
        **fields,
    }


@pytest.mark.parametrize(
    ("operation", "sample", "label", "reward"),
    [
        ("eq", "Yes", "Yes", 1.0),
        ("eq", "yes", "Yes", 0.0),
        ("ne", "yes", "Yes", 1.0),
        ("like", "I say Yes.", "Yes", 1.0),
        ("like", "I say yes.", "Yes", 0.0),
        ("ilike", "I say yes.", "YES", 1.0),
    ],
)
def test_string_check(operation: str, sample: str, label: str, reward: float) -> None:
    assert run(string_check(operation), sample, {"label": label}).reward == reward


def test_output_json_is_there_when_the_sample_is_json() -> None:
    grader = string_check(input="{{sample.output_json.answer}}")
    assert run(grader, '{"answer": "b"}', {"label": "b"}).reward == 1.0
    broken = run(grader, "no json", {"label": "b"})
    assert broken.reward is None
    assert broken.errors == GraderErrors(sample_parse_error=True)


def test_missing_item_field_is_an_invalid_variable() -> None:
    result = run(string_check(), "x", {})
    assert (result.reward, result.errors) == (None, GraderErrors(invalid_variable_error=True))


def test_a_sample_cannot_inject_templates() -> None:
    assert run(string_check(), "{{item.label}}", {"label": "secret"}).reward == 0.0


def test_wire_has_openai_fields_and_no_null_reward() -> None:
    wire = run(string_check(), "x", {}).wire()
    assert set(wire) == {"reward", "sub_rewards", "model_grader_token_usage_per_model", "metadata"}
    assert set(wire["metadata"]) == {
        "name", "type", "errors", "execution_time", "scores", "token_usage", "sampled_model_name",
    }  # fmt: skip
    assert len(wire["metadata"]["errors"]) == 14
    assert wire["reward"] == 0.0
    assert wire["metadata"]["errors"]["invalid_variable_error"] is True
    msgspec.json.encode(wire)


SIMILAR = {
    "type": "text_similarity",
    "name": "similar",
    "input": "{{sample.output_text}}",
    "reference": "{{item.label}}",
    "evaluation_metric": "fuzzy_match",
}


def test_cosine_needs_an_embedding() -> None:
    with pytest.raises(GraderError, match="embedding"):
        build({**SIMILAR, "evaluation_metric": "cosine"})

    async def embed(texts: list[str]) -> list[list[float]]:
        return [[1.0, float(len(text))] for text in texts]

    async def down(_: list[str]) -> list[list[float]]:
        raise ConnectionError("away")

    assert _cosine(embed).reward == pytest.approx(1.0)
    assert _cosine(down).reward is None
    assert _cosine(down).errors.model_grader_server_error


def _cosine(embed: Embed) -> GradeResult:
    return run({**SIMILAR, "evaluation_metric": "cosine"}, "abc", {"label": "xyz"}, embed=embed)


FORMS = [
    pytest.param({**string_check(), "name": "label"}, "label", id="one object"),
    pytest.param([string_check(), SIMILAR], "0.5 * label + 0.5 * similar", id="list"),
    pytest.param({"first": string_check(), "second": SIMILAR}, "0.5 * first + 0.5 * second", id="dict by key"),
    pytest.param({"first": string_check(), "second": SIMILAR}, "0.5 * label + 0.5 * similar", id="dict by name"),
    pytest.param({"first": {**string_check(), "name": ""}}, "first", id="dict without names"),
]


@pytest.mark.parametrize(("graders", "formula"), FORMS)
def test_multi_accepts_all_three_forms(graders: Any, formula: str) -> None:
    multi = {"type": "multi", "name": "m", "graders": graders, "calculate_output": formula}
    check(multi)
    result = run(multi, "Yes", {"label": "Yes"})
    assert result.reward == 1.0
    assert not result.errors.any
    assert set(result.sub_rewards.values()) == {1.0}


@pytest.mark.parametrize(
    ("formula", "flag"),
    [
        ("0.5 * similar +  0.5 * label)", "formula_parse_error"),
        ("0.5 * text_similarity_score +  0.5 * string_check_score", "invalid_variable_error"),
    ],
)
def test_broken_formulas_are_flags_on_results_and_errors_on_check(formula: str, flag: str) -> None:
    multi = {"type": "multi", "name": "m", "graders": [string_check(), SIMILAR], "calculate_output": formula}
    result = run(multi, "Yes", {"label": "Yes"})
    assert result.reward is None
    assert getattr(result.errors, flag) is True
    with pytest.raises(GraderError) as caught:
        check(multi)
    assert caught.value.error_code == flag


def test_multi_is_unscorable_when_a_part_it_reads_is() -> None:
    parts = {"a": string_check(), "b": string_check(input="{{sample.output_json.x}}")}
    item = {"label": "Yes"}
    needs_both = {"type": "multi", "name": "m", "graders": parts, "calculate_output": "a + b"}
    needs_one = {**needs_both, "calculate_output": "a"}
    assert run(needs_both, "Yes", item).reward is None
    assert run(needs_both, "Yes", item).errors == GraderErrors(sample_parse_error=True)
    assert run(needs_one, "Yes", item).reward == 1.0
    assert run({**needs_both, "calculate_output": "1 / (a - 1)"}, "Yes", item).errors == GraderErrors(other_error=True)


@pytest.mark.parametrize(
    "grader",
    [
        {"type": "label_model", "name": "x"},
        {"name": "x"},
        string_check(operation="matches"),
        string_check(surprise=1),
        {**SIMILAR, "evaluation_metric": "vibes"},
        {"type": "multi", "name": "m", "graders": {}, "calculate_output": "1"},
        {"type": "multi", "name": "m", "graders": [string_check(), string_check()], "calculate_output": "1"},
        {"type": "multi", "name": "m", "graders": 3, "calculate_output": "1"},
        {"type": "feedback", "labels": ["Yes", "yes"]},
        {"type": "feedback", "labels": ["Yes"]},
        {"type": "score_model", "name": "j", "model": "m", "input": [{"role": "user", "content": "x"}]},
        {"type": "python", "name": "p", "source": 3},
    ],
)
def test_wrong_graders_are_refused_by_name(grader: dict[str, Any]) -> None:
    with pytest.raises(GraderError, match="grader"):
        build(grader)


JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "large",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "Grade: {{sample.output_text}}"}]}],
    "range": [0, 10],
    "sampling_params": {"temperature": 0, "max_completions_tokens": 16},
}


def judged(text: str | None, refusal: str | None = None) -> GradeResult:
    async def judge(call: JudgeCall) -> JudgeReply:
        assert call.messages == ({"role": "user", "content": "Grade: good"},)
        assert call.sampling == {"temperature": 0.0, "max_completions_tokens": 16}
        return JudgeReply(text=text, model="large@1", total_tokens=12, refusal=refusal)

    return run(JUDGE, "good", {}, judge=judge)


@pytest.mark.parametrize(
    "content", [3, [], {"type": "input_image", "image_url": "x"}, [{"type": "text", "text": "a"}, 3]]
)
def test_a_judge_is_asked_in_text_alone(content: Any) -> None:
    with pytest.raises(GraderError) as caught:
        build({**JUDGE, "input": [{"role": "user", "content": content}]}, GraderServices(judge=never))
    assert caught.value.param == "grader.input.0.content"


async def never(call: JudgeCall) -> JudgeReply:
    raise AssertionError(call)


def test_score_model() -> None:
    result = judged('{"result": 7.5}')
    assert (result.reward, result.token_usage, result.sampled_model_name) == (7.5, 12, "large@1")
    assert result.token_usage_per_model == {"large@1": 12}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seven",
        "7/10",
        "Score: 7",
        "11",
        "-1",
        "NaN",
        "Infinity",
        "true",
        '{"result": "7"}',
        '{"score": 7}',
        "[7]",
        None,
    ],
)
def test_a_judge_that_does_not_say_a_number_in_range_gives_no_reward(text: str | None) -> None:
    result = judged(text)
    assert (result.reward, result.errors) == (None, GraderErrors(model_grader_parse_error=True))


def test_what_a_judge_cannot_be_told_is_refused_by_name() -> None:
    async def judge(_: JudgeCall) -> JudgeReply:
        raise AssertionError("not asked")

    spec = {**JUDGE, "sampling_params": {"reasoning_effort": "high"}}
    with pytest.raises(GraderError, match="leave it out") as caught:
        build(spec, GraderServices(judge=judge))
    assert caught.value.param == "grader.sampling_params.reasoning_effort"
    build({**JUDGE, "sampling_params": {"reasoning_effort": None}}, GraderServices(judge=judge)).close()


def test_judge_refusal_and_failure() -> None:
    assert judged("7", refusal="no").errors == GraderErrors(model_grader_refusal_error=True)

    async def broken(_: JudgeCall) -> JudgeReply:
        raise TimeoutError("late")

    result = run(JUDGE, "good", {}, judge=broken)
    assert result.reward is None
    assert result.errors.model_grader_server_error
    assert "TimeoutError at" in (result.errors.model_grader_server_error_details or "")


@given(st.text(max_size=20), st.floats(0, 1), st.floats(1, 2))
def test_parse_score_stays_in_range(text: str, low: float, high: float) -> None:
    score = parse_score(text, low, high)
    assert score is None or low <= score <= high


FEEDBACK = {"type": "feedback", "labels": ["Yes", "No"]}


@pytest.mark.parametrize(
    ("output", "item", "reward"),
    [
        ("Yes", {"answer": "Yes", "verdict": True}, 1.0),
        ("No", {"answer": "Yes", "verdict": True}, 0.0),
        ("Yes", {"answer": "Yes", "verdict": False}, 0.0),
        ("No", {"answer": "Yes", "verdict": False}, 1.0),
        (" no. ", {"answer": "Yes", "verdict": False}, 1.0),
        ("Yes or No", {"answer": "Yes", "verdict": True}, 0.0),
        ("", {"answer": "Yes", "verdict": True}, 0.0),
        ("No", {"answer": "Yes", "verdict": True, "demonstration": "No"}, 1.0),
        ("Yes", {}, None),
        ("Yes", {"answer": "Yes", "verdict": None}, None),
        ("Yes", {"answer": "perhaps", "verdict": False}, None),
    ],
)
def test_feedback_on_two_labels(output: str, item: dict[str, Any], reward: float | None) -> None:
    result = run(FEEDBACK, output, item)
    assert result.reward == reward
    assert result.errors.any is (reward is None)


@pytest.mark.parametrize(
    ("output", "item", "reward"),
    [
        ("a", {"answer": "a", "verdict": False}, 0.0),
        ("b", {"answer": "a", "verdict": False}, None),
        ("d", {"answer": "a", "verdict": False}, 0.0),
        ("b", {"answer": "a", "verdict": True}, 0.0),
        ("c", {"demonstration": "c"}, 1.0),
    ],
)
def test_feedback_on_more_labels(output: str, item: dict[str, Any], reward: float | None) -> None:
    assert run({"type": "feedback", "labels": ["a", "b", "c"]}, output, item).reward == reward


@pytest.mark.parametrize(
    ("output", "item", "reward"),
    [
        ("one text", {"answer": "one text", "verdict": True}, 1.0),
        ("one text", {"answer": "one text", "verdict": False}, 0.0),
        ("another", {"answer": "one text", "verdict": True}, None),
        ("another", {"answer": "one text", "verdict": False}, None),
        ("right", {"answer": "x", "verdict": False, "demonstration": "right"}, 1.0),
        ("wrong", {"demonstration": "right"}, 0.0),
    ],
)
def test_feedback_on_free_text(output: str, item: dict[str, Any], reward: float | None) -> None:
    assert run({"type": "feedback"}, output, item).reward == reward


ATTRIBUTES = {"type": "attributes", "name": "values"}


@pytest.mark.parametrize(
    ("output", "target", "reward"),
    [
        ('{"Brand": "Acme", "Size": "10"}', {"Brand": {"Acme": 1}, "Size": {"10": 1}}, 1.0),
        ('{"Brand": "Acme", "Size": "9"}', {"Brand": {"Acme": 1}, "Size": {"10": 1}}, 0.5),
        ('{"Brand": "Acme"}', {"Brand": {"Acme": 1}, "Size": {"10": 1}}, 2 / 3),
        ('{"Brand": "n/a"}', {"Brand": {"n/a": 1}}, 1.0),
        ('{"Brand": "Acme"}', {"Brand": {"n/a": 1}}, 0.0),
        ('{"Brand": "Acme", "Other": "x"}', {"Brand": ["Acme", "ACME"]}, 1.0),
        ("no json", {"Brand": "Acme"}, 0.0),
        ('["Acme"]', {"Brand": "Acme"}, 0.0),
        ('{"Brand": "Acme"}', {}, None),
    ],
)
def test_attributes(output: str, target: dict[str, Any], reward: float | None) -> None:
    result = run(ATTRIBUTES, output, {"target": target})
    assert result.reward == (None if reward is None else pytest.approx(reward))
    assert result.errors.any is (reward is None)


@given(
    st.text(max_size=40),
    st.dictionaries(
        st.sampled_from(["label", "answer", "verdict", "target", "demonstration"]), st.text(max_size=5), max_size=4
    ),
)
def test_no_reward_always_has_a_reason(sample: str, item: dict[str, Any]) -> None:
    for grader in (string_check(), SIMILAR, FEEDBACK, {"type": "feedback"}, ATTRIBUTES):
        result = run(grader, sample, item)
        assert (result.reward is None) == result.errors.any


@pytest.mark.parametrize(
    "template",
    ["{{ item.answer | lower }}", "{item.answer}", "{{Item.answer}}", "{{sample.choices.0.message.content}}"],
)
@pytest.mark.parametrize(
    "grader",
    [
        {"type": "string_check", "input": "{{sample.output_text}}", "reference": "?", "operation": "eq"},
        {"type": "string_check", "input": "?", "reference": "yes", "operation": "eq"},
        {"type": "text_similarity", "input": "?", "reference": "yes", "evaluation_metric": "rouge_1"},
        {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "Is ? right?"}]},
        {"type": "feedback", "labels": ["a", "b"], "input": "?"},
        {"type": "attributes", "reference": "?"},
        {
            "type": "multi",
            "graders": {"a": {"type": "string_check", "input": "?", "reference": "x", "operation": "eq"}},
            "calculate_output": "a",
        },
    ],
)
def test_a_misspelled_placeholder_is_refused_before_anything_is_graded(template: str, grader: dict[str, Any]) -> None:
    async def judge(_: Any) -> Any:
        raise AssertionError

    spelled = json.loads(json.dumps(grader).replace("?", template, 1))
    with pytest.raises(GraderError, match=r"grader\S*\.(input|reference)"):
        check(spelled, GraderServices(judge=judge))


def test_an_image_of_another_service_is_refused_by_name() -> None:
    spec = {"type": "python", "name": "p", "source": "def grade(sample, item): return 1.0", "image_tag": "2025-05-08"}
    with pytest.raises(GraderError, match="image_tag") as refused:
        build(spec)
    assert refused.value.param == "grader.image_tag"
