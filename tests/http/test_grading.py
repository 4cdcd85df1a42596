"""Graders under load and in odd shapes, through the API: nobody else waits for them, and nothing they do is a 500."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.live import Server

RUN = "/fine_tuning/alpha/graders/run"
VALIDATE = "/fine_tuning/alpha/graders/validate"
SLEEPER = {"type": "python", "source": "import time; time.sleep(6)\ndef grade(sample, item): return 1.0"}


@pytest.fixture(scope="module")
def member(server: Server) -> OpenAI:
    made: Any = server.openai().post("/keys", body={"name": "m", "role": "member"}, cast_to=object)
    return server.openai(made["key"]).with_options(max_retries=0, timeout=60)


def run(client: OpenAI, grader: Any, sample: str = "", **item: Any) -> Any:
    body = {"grader": grader, "model_sample": sample, "item": item}
    return client.post(RUN, body=body, cast_to=object)


def status(call: Any) -> int:
    try:
        call()
    except openai.APIStatusError as error:
        return error.status_code
    return 200


def slowest(client: OpenAI, until: Any) -> float:
    worst = 0.0
    while not until():
        start = time.monotonic()
        client.files.list()
        worst = max(worst, time.monotonic() - start)
    return worst


def test_sleeping_graders_hold_up_no_files_and_are_bounded(member: OpenAI) -> None:
    with ThreadPoolExecutor(12) as threads:
        sent = [threads.submit(status, lambda: run(member, SLEEPER)) for _ in range(12)]
        worst = slowest(member, lambda: all(one.done() for one in sent))
    answers = sorted(one.result() for one in sent)
    assert answers == [200] * 4 + [429] * 8
    assert worst < 3
    after = run(member, {**SLEEPER, "source": "def grade(sample, item): return 1.0"})
    assert after["reward"] == 1.0, after


@pytest.mark.parametrize("metric", ["fuzzy_match", "bleu", "meteor", "rouge_l"])
@pytest.mark.parametrize("unit", ["word ", "的"])
def test_long_texts_hold_up_nobody(member: OpenAI, metric: str, unit: str) -> None:
    grader = {
        "type": "text_similarity",
        "input": "{{sample.output_text}}",
        "reference": "{{item.r}}",
        "evaluation_metric": metric,
    }
    longest = (unit * 32_000)[:32_000]
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(run, member, grader, longest, r=longest[1:])
        worst = slowest(member, sent.done)
        assert sent.result()["reward"] > 0.9
    assert worst < 1
    with pytest.raises(openai.BadRequestError, match="32000") as refused:
        run(member, grader, unit * 200_000, r="short")
    assert refused.value.code == "truncated_observation_error"
    with pytest.raises(openai.BadRequestError, match="model_sample"):
        run(member, grader, (unit * 1_100_000)[:1_100_000], r="short")


@pytest.mark.parametrize(
    "source",
    [
        "-" * 5_000 + "1",
        "(" * 3_000,
        "import os\nfor n in range(3, 50):\n    try: os.write(n, b'\\0\\0\\0\\x03[1]')\n    except OSError: pass",
        "\0",
        "x",
        "é" * 40_000,
    ],
)
def test_a_source_that_cannot_be_is_refused_by_name(member: OpenAI, source: str) -> None:
    for kind in ("python", "lambda"):
        with pytest.raises(openai.BadRequestError) as refused:
            member.post(VALIDATE, body={"grader": {"type": kind, "source": source}}, cast_to=object)
        assert refused.value.param == "grader.source"


def test_what_a_grader_answers_is_never_an_internal_error(member: OpenAI) -> None:
    sources = [
        "def lambda_handler(event, context): return [{'id': event[0]['id'], 'aggregate_reward_score': 10 ** 400}]",
        "def lambda_handler(event, context): return 10 ** 400",
        "def lambda_handler(event, context):\n    deep = []\n    for _ in range(900): deep = [deep]\n    return deep",
        "def lambda_handler(event, context): return {1: object()}",
        "def lambda_handler(event, context): return [{'id': event[0]['id'], 'aggregate_reward_score': float('nan')}]",
        "def lambda_handler(event, context): return [{'id': [[]], 'metrics_list': 5}, 7, None]",
        "import os\ndef lambda_handler(event, context):\n    os.write(3, b'[' * 100000)\n    os._exit(0)",
    ]
    for source in sources:
        answer = run(member, {"type": "lambda", "source": source})
        assert any(value is True for value in answer["metadata"]["errors"].values()), source
    right = "def lambda_handler(event, context): return [{'id': e['id'], 'aggregate_reward_score': 1} for e in event]"
    answer = run(member, {"type": "lambda", "source": right}, messages=5)
    assert answer["metadata"]["errors"]["invalid_variable_error"]
    assert "item.messages" in json.dumps(answer["metadata"]["errors"])


def test_cosine_says_what_is_true(member: OpenAI) -> None:
    grader = {"type": "text_similarity", "input": "a", "reference": "b", "evaluation_metric": "cosine"}
    with pytest.raises(openai.InternalServerError, match=r"fetch_weights is false.*embedding_model"):
        member.post(VALIDATE, body={"grader": grader}, cast_to=object)
    with pytest.raises(openai.InternalServerError, match="which cannot be had"):
        member.post(RUN, body={"grader": grader, "model_sample": "a"}, cast_to=object)


@pytest.mark.parametrize("nested", [False, True])
def test_no_job_is_made_whose_grader_has_no_model_to_compare_by(server: Server, member: OpenAI, nested: bool) -> None:
    cosine = {"type": "text_similarity", "name": "c", "input": "a", "reference": "b", "evaluation_metric": "cosine"}
    grader = {"type": "multi", "graders": {"c": cosine}, "calculate_output": "c"} if nested else cosine
    owner = server.openai().with_options(max_retries=0, timeout=60)
    asked = [
        {"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "a"}]} for n in range(40)
    ]
    rows = b"".join(json.dumps(row).encode() + b"\n" for row in asked)
    file = owner.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
    dataset: Any = owner.post("/datasets", body={"name": f"cosine-{nested}", "file_id": file.id}, cast_to=object)
    metric = {"dataset": dataset["id"], "metric": "reward", "grader": grader}
    for path, body in {
        "/evaluations": metric | {"systems": ["upstream"]},
        "/cascades": metric | {"route": "r", "small": "small", "large": "upstream", "activate": False},
    }.items():
        with pytest.raises(openai.InternalServerError, match="which cannot be had"):
            owner.post(path, body=body, cast_to=object)
        listed: Any = owner.get(path, cast_to=object)
        assert listed["data"] == []
