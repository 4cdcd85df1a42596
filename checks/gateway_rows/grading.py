"""Rows about graders and labels."""

import time
from typing import Any

from gateway_rows.table import Bench, Seen, row

GRADERS = "/v1/fine_tuning/alpha/graders"
NO_PLACEHOLDERS = (
    "{{item['answer']}}",
    '{{item["answer"]}}',
    "{{item.list[0]}}",
    "{{ item.answer | lower }}",
    "{{item.answer|upper}}",
    "{{item.name with space}}",
    "{item.answer}",
    "{{item.answer}",
    "{item.answer}}",
    "{{item. answer}}",
    "{{Item.answer}}",
    "{{items.answer}}",
    "{{ sample.choices[0].message.content }}",
    "{% if item.answer %}yes{% endif %}",
    "{%- set x = 1 %}",
    "{{#item.answer}}yes{{/item.answer}}",
    "{{{item.answer}}}",
    "${item.answer}",
    "{{}}",
    "{{ }}",
    "{{answer}}",
)
PLACEHOLDERS = (
    "{{item.answer}}",
    "{{ item.answer }}",
    "{{item.list.0}}",
    "{{item.名前}}",
    "{{item.nested.a}}",
    "{{item.0}}",
)
ITEM = {"answer": "yes", "名前": "yes", "list": ["yes"], "nested": {"a": "yes"}, "0": "yes", "name with space": "yes"}


def _check(reference: str) -> dict[str, Any]:
    return {
        "type": "string_check",
        "name": "g",
        "input": "{{sample.output_text}}",
        "reference": reference,
        "operation": "eq",
    }


@row(10, "what looks like a placeholder and is none is refused: validate, run, evaluations, jobs, configuration")
def templates(bench: Bench, seen: Seen) -> None:
    """Row 10: unresolved placeholders."""
    call = bench.server.call
    similar = {
        "type": "text_similarity",
        "name": "s",
        "input": "{{sample.output_text}}",
        "evaluation_metric": "fuzzy_match",
    }
    for reference in NO_PLACEHOLDERS:
        grader = _check(reference)
        wrapped = {"type": "multi", "name": "m", "graders": {"g": grader}, "calculate_output": "g"}
        judge = {
            "type": "score_model",
            "name": "j",
            "model": "plain",
            "input": [{"role": "user", "content": reference}],
        }
        for kind in (grader, wrapped, similar | {"reference": reference}, judge):
            valid = call("POST", f"{GRADERS}/validate", {"grader": kind})
            seen.check(f"validate {kind['type']} {reference}", valid.status == 400, valid.text)
        ran = call("POST", f"{GRADERS}/run", {"grader": grader, "model_sample": "yes", "item": ITEM})
        seen.check(f"run {reference}", ran.status == 400, ran.text)
    for reference in PLACEHOLDERS:
        ran = call("POST", f"{GRADERS}/run", {"grader": _check(reference), "model_sample": "yes", "item": ITEM}).body
        seen.check(f"run {reference}", ran.get("reward") == 1.0, ran)
    missing = call(
        "POST", f"{GRADERS}/run", {"grader": _check("{{item.missing}}"), "model_sample": "yes", "item": ITEM}
    ).body
    seen.check("a field that is not there is flagged", missing["metadata"]["errors"]["invalid_variable_error"], missing)
    braces = call(
        "POST", f"{GRADERS}/run", {"grader": _check("{{item.a}}"), "model_sample": "{{x}}", "item": {"a": "{{x}}"}}
    )
    seen.check("braces in what is filled in are text", braces.body.get("reward") == 1.0, braces.text)
    _configured(bench, seen)


def _configured(bench: Bench, seen: Seen) -> None:
    """Start servers with templates of that kind in [prompts]; they name them and end."""
    from gateway_rows.server import Server

    for number, template in enumerate(("{{input.text | trim}}", "{{input.a b}}", "{{Input.text}}")):
        config = f"include_default = true\n[prompts.free]\nuser = '{template}'\n"
        server = Server(bench.folder / f"prompt-{number}", config)
        ready = server.ready(60)
        server.close()
        said = server.logged()
        right = not ready and server.process.returncode == 2 and template.strip("{}") in said and "prompts.free" in said
        seen.check(f"configuration {template}", right, said[-300:])


PHRASES = (
    ("not spam", ("spam", "ham"), False),
    ("This isn't spam.", ("spam", "ham"), False),
    ("This is not “spam”.", ("spam", "ham"), False),
    ("I cannot say yes", ("yes", "no"), False),
    ("non-toxic", ("toxic", "clean"), False),
    ("It is never spam", ("spam", "ham"), False),
    ("yes and no", ("yes", "no"), False),
    ("(A)", ("A", "B"), True),
    ("A) because B is wrong", ("A", "B"), True),
    ("“A”", ("A", "B"), True),
    ("\\boxed{A}", ("A", "B"), True),
    ("Ａ", ("A", "B"), True),
    ("**A**", ("A", "B"), True),
    ("The answer is A.", ("A", "B"), True),
    ("cafe\u0301", ("caf\u00e9", "tea"), True),
    ("はい。", ("はい", "いいえ"), True),
)


@row(11, "a denied label is none, a marked one is read; labels that are alike are refused")
def labels(bench: Bench, seen: Seen) -> None:
    """Row 11: labels said in prose, by the function and by an evaluation of recorded answers."""
    from bessemer.evals.truth import parse_label

    for text, names, first in PHRASES:
        got = parse_label(text, list(names))
        seen.check(text, got == (names[0] if first else None), got)
    dataset = _recorded(bench)
    for metric, wanted in (("accuracy", 0.5), ("f1", 1.0)):
        body = {"dataset": dataset, "systems": ["weird"], "metric": metric, "labels": ["spam", "ham"]}
        result = _evaluation(bench, body | ({"positive": "spam"} if metric == "f1" else {}))
        score = result["rows"][0]["score"]
        seen.check(metric, score["value"] == wanted and score["low"] < score["high"], score)
    for alike in (["spam", "Spam", "ham"], ["spam", "spam.", "ham"], ["1", "1."], ["", "ham"], ["ham"]):
        answer = bench.server.call(
            "POST", "/v1/evaluations", {"dataset": dataset, "systems": ["weird"], "labels": alike}
        )
        seen.check(f"labels {alike}", answer.status == 400, answer.text)
    filtered = _check("{{ item.demonstration | upper }}")
    graded = {"dataset": dataset, "systems": ["weird"], "metric": "reward", "grader": filtered}
    answer = bench.server.call("POST", "/v1/evaluations", graded)
    seen.check("a filter in an evaluation's grader", answer.status == 400, answer.text)


def _recorded(bench: Bench) -> str:
    """Return a dataset of what the recorded model answers to eight items, with the truth of each."""
    for number, truth in enumerate(("ham", "ham", "spam", "ham", "ham", "ham", "spam", "ham")):
        answer = bench.server.chat("weird", f"item {number}", metadata={"app": "labels"}, max_tokens=None)
        inference = answer.headers["x-bessemer-inference-id"]
        said = {"inference_id": inference, "metric": "demonstration", "value": truth}
        bench.server.call("POST", "/v1/feedback", said)
    body = {"name": "labels", "tags": {"app": "labels"}, "splits": {"holdout": 1.0}, "require_feedback": False}
    return str(bench.server.call("POST", "/v1/datasets", body).body["id"])


def _evaluation(bench: Bench, body: dict[str, Any]) -> dict[str, Any]:
    """Return the result of an evaluation."""
    job = bench.server.call("POST", "/v1/evaluations", body).body["id"]
    for _ in range(240):
        found = bench.server.call("GET", f"/v1/evaluations/{job}").body
        if found["status"] in ("succeeded", "failed", "cancelled"):
            break
        time.sleep(0.5)
    result: dict[str, Any] = found["result"]
    return result


PAIRS = {
    "Chinese": ("今天天气好", "今天天气很好"),
    "Japanese": ("今日は天気がいいです", "今日は天気がとてもいいです"),
    "Thai": ("วันนี้อากาศดี", "วันนี้อากาศดีมาก"),
    "Khmer": ("ថ្ងៃនេះអាកាសធាតុល្អ", "ថ្ងៃនេះអាកាសធាតុល្អណាស់"),
    "Hindi": ("आज मौसम अच्छा है", "आज मौसम बहुत अच्छा है"),
    "English": ("The weather is nice today", "The weather is very nice today"),
}
METRICS = ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_l")


@row(12, "scripts without spaces score as English does, different emoji and marks 0, equal texts 1")
def similarity(bench: Bench, seen: Seen) -> None:
    """Row 12: text measures."""

    def reward(sample: str, reference: str, metric: str) -> float:
        grader = {"type": "text_similarity", "name": "g", "input": "{{sample.output_text}}", "reference": "{{item.r}}"}
        grader["evaluation_metric"] = metric
        body = {"grader": grader, "model_sample": sample, "item": {"r": reference}}
        return float(bench.server.call("POST", f"{GRADERS}/run", body).body["reward"])

    for metric in METRICS:
        for name, (sample, reference) in PAIRS.items():
            near = reward(sample, reference, metric)
            seen.check(f"{name} {metric}", 0.3 < near < 1, near)
        for name, (sample, reference) in {
            "emoji": ("👍", "👎"),
            "marks": ("???", "!!!"),
            "empty": ("", "a"),
            "words": ("one", "two"),
        }.items():
            far = reward(sample, reference, metric)
            seen.check(f"{name} differ, {metric}", far == 0 or (metric == "fuzzy_match" and far < 0.5), far)
        for name, (sample, reference) in {
            "composed": ("caf\u00e9 cr\u00e8me", "cafe\u0301 cre\u0300me"),
            "emoji": ("👍", "👍"),
            "empty": ("", ""),
            "Hangul": ("한국어", "한국어"),
        }.items():
            same = reward(sample, reference, metric)
            seen.check(f"{name} equal, {metric}", same == 1, same)
