"""The real `openai` client against the real server process."""

import io
import json
import time
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.live import Server

from lab.fake_openai import Script

ROW = {"messages": [{"role": "user", "content": "Same?"}], "answer": "yes"}
GRADER = {
    "type": "string_check",
    "name": "g",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}


@pytest.fixture
def client(server: Server) -> OpenAI:
    return server.openai()


def upload(client: OpenAI, rows: list[dict[str, object]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows)
    return client.files.create(file=("train.jsonl", io.BytesIO(content.encode())), purpose="fine-tune").id


def test_a_chat_is_answered_and_recorded(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.append(Script(pieces=("Yes", "."), prompt_tokens=7))
    answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    assert (answer.choices[0].message.role, answer.choices[0].message.content) == ("assistant", "Yes.")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 2)
    extension = answer.model_extra["bessemer"]
    assert extension["cost_usd"] == pytest.approx((7 + 2 * 2) / 1e6)
    newest = client.get("/inferences?limit=1", cast_to=object)["data"]
    assert [row["id"] for row in newest] == [extension["inference_id"]]
    kept = client.get(f"/inferences/{extension['inference_id']}", cast_to=object)
    assert kept["output"] == "Yes."
    assert kept["calls"][0]["version"] == extension["version"]


def test_an_answer_goes_back_into_the_conversation_as_it_came(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.extend(Script(pieces=(text,)) for text in ("Yes.", "Because."))
    messages: list[Any] = [{"role": "user", "content": "Is it?"}]
    first = client.chat.completions.create(model="assistant", messages=messages, presence_penalty=0, logprobs=None)
    messages += [first.choices[0].message, {"role": "user", "content": "Why?"}]
    second = client.chat.completions.create(model="assistant", messages=messages)
    kept = client.get(f"/inferences/{second.model_extra['bessemer']['inference_id']}", cast_to=object)
    assert second.choices[0].message.content == "Because."
    assert kept["messages"][1] == {"role": "assistant", "content": "Yes."}


def test_a_stream_gives_the_same_text_and_its_usage(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.append(Script(pieces=("a", "b", "c")))
    stream = client.chat.completions.create(
        model="assistant",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "abc"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


def test_log_probabilities_and_several_answers(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.extend(
        Script(pieces=(text,), logprobs=(-0.25,), prompt_tokens=5) for text in ("x", "y", "z")
    )
    answer = client.chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": "hi"}], n=3, logprobs=True
    )
    assert sorted(choice.message.content or "" for choice in answer.choices) == ["x", "y", "z"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert answer.choices[0].logprobs.content[0].logprob == -0.25
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 3)
    extension = answer.model_extra["bessemer"]
    assert len(set(extension["inference_ids"])) == 3
    assert extension["cost_usd"] == pytest.approx(3 * (5 + 2 * 1) / 1e6)


def test_several_answers_are_streamed_each_as_it_comes(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.extend(
        Script(pieces=(text, text), prompt_tokens=5, between_s=0.01) for text in ("x", "y", "z")
    )
    chunks = list(
        client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "hi"}],
            n=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts, inferences = {0: "", 1: "", 2: ""}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason is not None:
                inferences[choice.index] = chunk.model_extra["bessemer"]["inference_id"]
    assert sorted(texts.values()) == ["xx", "yy", "zz"]
    assert len({chunk.id for chunk in chunks}) == 1
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 6, 11)
    for index, inference_id in inferences.items():
        kept = client.get(f"/inferences/{inference_id}", cast_to=object)
        assert (kept["output"], kept["output_tokens"], kept["error"]) == (texts[index], 2, None)
    assert len(set(inferences.values())) == 3


def test_when_one_of_several_answers_fails_the_others_end_and_say_so(server: Server, client: OpenAI) -> None:
    slow = Script(pieces=("a",) * 100, between_s=0.05)
    server.upstream.scripts.waiting.extend([slow, Script(pieces=("b", "c"), error_after=1, between_s=0.2)])
    with pytest.raises(openai.APIError):
        list(
            client.chat.completions.create(
                model="assistant", messages=[{"role": "user", "content": "one fails"}], n=2, stream=True
            )
        )
    rows = client.get("/inferences?limit=2", cast_to=object)["data"]
    assert sorted(row["error"].partition(":")[0] for row in rows) == ["sibling_failed", "upstream_error"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [0, -1, 17])
def test_a_number_of_answers_that_cannot_be_is_refused(client: OpenAI, n: int, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match=f"1 to 16; got {n}") as refused:
        client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "hi"}], n=n, stream=stream
        )
    assert refused.value.param == "n"


def test_a_route_that_cannot_answer_is_refused_when_it_is_put(client: OpenAI) -> None:
    calibration = {"version": "up@0", "score": "vibes", "dataset_sha256": "0", "x": [0.0], "y": [0.5]}
    steps = [
        {"targets": [{"model": "up"}], "threshold": 0.5, "calibration": calibration},
        {"targets": [{"model": "up"}]},
    ]
    for body, param in (({"steps": steps}, "steps.0.calibration.score"), ({"steps": steps[1:] * 0}, "steps")):
        with pytest.raises(openai.BadRequestError) as refused:
            client.put("/routes/new", body=body, cast_to=object)
        assert refused.value.param == param


def test_an_upstream_failure_before_the_first_token_has_its_real_status(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.extend([Script(status=400)] * 2)
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(
                model="assistant", messages=[{"role": "user", "content": "hi"}], stream=stream
            )
        assert caught.value.status_code in {400, 502}


def test_what_an_upstream_said_of_its_failure_is_for_owners_alone(server: Server, client: OpenAI) -> None:
    server.upstream.scripts.waiting.append(Script(status=500))
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    assert "scripted failure" not in str(caught.value)
    made: Any = client.post("/keys", body={"name": "a member", "role": "member"}, cast_to=object)
    [row] = client.get("/inferences?limit=1", cast_to=object)["data"]
    assert "scripted failure" in row["calls"][0]["error_detail"]
    member = server.openai(made["key"])
    for path in ("/inferences?limit=1", f"/inferences/{row['id']}"):
        seen = member.get(path, cast_to=object)
        assert "scripted failure" not in str(seen)
        assert "the upstream answered 500" in str(seen)


def settled(client: OpenAI, inference: str) -> Any:
    """Return a record that is written when its client is seen to have gone."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.get(f"/inferences/{inference}", cast_to=object)
        except openai.NotFoundError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def test_a_client_that_leaves_stops_the_upstream(server: Server, client: OpenAI) -> None:
    before = server.log.read_text().count('"status":499')
    server.upstream.scripts.waiting.append(Script(pieces=("a",) * 200, between_s=0.05))
    stream = client.chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    inference = next(iter(stream)).model_extra["bessemer"]["inference_id"]
    stream.close()
    assert server.upstream.disconnected(5.0)
    kept = settled(client, inference)
    assert kept["error"]
    assert kept["finish_reason"] != "stop"

    server.upstream.scripts.waiting.append(Script(pieces=("a",), first_token_s=20))
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "hi"}]
        )
    deadline = time.monotonic() + 10
    while (gone := server.log.read_text().count('"status":499') - before) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone == 2, "a waiting request ends with its client, long before the upstream's 20 s"


def test_models_list_what_may_be_asked(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"assistant", "upstream", "small"} <= names
    assert any(name.startswith("upstream@") for name in names)
    assert client.models.retrieve("assistant").id == "assistant"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_files_come_and_go(client: OpenAI) -> None:
    file_id = upload(client, [ROW] * 3)
    assert client.files.retrieve(file_id).filename == "train.jsonl"
    assert client.files.content(file_id).text.count("\n") == 3
    assert file_id in {file.id for file in client.files.list(purpose="fine-tune")}
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


def test_a_file_with_faulty_rows_names_them(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="row 2"):
        upload(client, [ROW, {"messages": []}])
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("a.txt", io.BytesIO(b"{}")), purpose="anything")  # type: ignore[arg-type]


def test_names_that_lead_nowhere_are_refused_when_a_job_is_created(client: OpenAI) -> None:
    def refused(grader: Any = GRADER, **metadata: str) -> str:
        method = {"type": "reinforcement", "reinforcement": {"grader": grader}}
        options = {f"bessemer.{name}": value for name, value in metadata.items()}
        with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
            client.fine_tuning.jobs.create(
                model="small", training_file=file_id, method=method, metadata=options or None
            )
        return str(caught.value)

    file_id = upload(client, [ROW] * 10)
    assert "bessemer.prompt" in refused(prompt="nowhere")
    assert "bessemer.positive" in refused(positive="perhaps")
    judge = {"type": "score_model", "name": "j", "model": "nobody", "input": [{"role": "user", "content": "Good?"}]}
    assert "grader.model" in refused(judge)
    assert "grader.reference" in refused(GRADER | {"reference": "{{ item.answer | lower }}"})


def test_files_are_listed_in_pages(client: OpenAI) -> None:
    ids = [upload(client, [ROW]) for _ in range(3)]
    page = client.files.list(limit=2)
    assert [file.id for file in page.data] == ids[:0:-1]
    assert page.has_more
    assert ids[0] in {file.id for file in page}
    assert [file.id for file in client.files.list(limit=3, order="asc", after=ids[0]).data][:2] == ids[1:]


def test_a_job_is_created_listed_paused_resumed_and_cancelled(client: OpenAI) -> None:
    file_id = upload(client, [ROW])
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER, "hyperparameters": {"n_epochs": 2}}}
    jobs = client.fine_tuning.jobs
    made = [
        jobs.create(model="small", training_file=file_id, method=method, suffix="s", seed=3, metadata={"i": str(i)})
        for i in range(3)
    ]
    job = jobs.retrieve(made[0].id)
    assert job.status == "queued"
    assert (job.model, job.training_file, job.seed) == ("small", file_id, 3)
    assert job.method is not None
    assert job.method.type == "reinforcement"
    assert job.hyperparameters.n_epochs == 2
    assert [row.id for row in jobs.list(limit=2)][:3] == [row.id for row in reversed(made)]
    assert [row.id for row in jobs.list(metadata={"i": "1"})] == [made[1].id]
    warning, created = jobs.list_events(job.id)
    assert created.message == f"Created fine-tuning job: {job.id}"
    assert (warning.level, warning.message) == ("warn", made[0].model_extra["bessemer"]["warnings"][0])
    assert "Only 1 training row" in warning.message
    assert jobs.checkpoints.list(job.id).data == []
    assert jobs.pause(job.id).status == "paused"
    assert jobs.resume(job.id).status == "queued"
    cancelled = jobs.cancel(job.id)
    assert (cancelled.status, cancelled.finished_at is not None) == ("cancelled", True)
    with pytest.raises(openai.BadRequestError, match="cannot be cancelled"):
        jobs.cancel(job.id)


def test_the_same_idempotency_key_gives_the_same_job(client: OpenAI) -> None:
    file_id = upload(client, [{"messages": [*ROW["messages"], {"role": "assistant", "content": "yes"}]}])
    headers = {"Idempotency-Key": f"once-{time.time()}"}
    first, second = (
        client.fine_tuning.jobs.create(model="small", training_file=file_id, extra_headers=headers) for _ in range(2)
    )
    assert first.id == second.id
    with pytest.raises(openai.BadRequestError, match="another request"):
        client.fine_tuning.jobs.create(model="small", training_file=file_id, seed=5, extra_headers=headers)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"training_file": "file-none"}, "training_file"),
        ({"model": "upstream"}, "model"),
        ({"seed": -1}, "seed"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"extra_body": {"nope": 1}}, "nope"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 99}}}},
         "method.supervised.hyperparameters.n_epochs"),
        ({"method": {"type": "supervised"}}, "training_file"),
        ({"metadata": {"bessemer.mention_replacement": "0.5"}}, "metadata"),
    ],
)  # fmt: skip
def test_a_wrong_job_is_refused_with_the_field(client: OpenAI, changes: dict[str, object], param: str) -> None:
    good = {
        "model": "small",
        "training_file": upload(client, [ROW]),
        "method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
    }
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(**(good | changes))
    assert caught.value.body["param"] == param


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.create(model="gpt-9", training_file="file-x")
    assert caught.value.code == "model_not_found"


def test_graders_are_validated_and_run(client: OpenAI) -> None:
    graders = client.fine_tuning.alpha.graders
    assert graders.validate(grader=GRADER).grader is not None
    assert graders.run(grader=GRADER, model_sample="yes", item={"answer": "yes"}).reward == 1.0
    result = graders.run(grader=GRADER, model_sample="no", item={"answer": "yes"})
    assert result.reward == 0.0
    assert result.metadata.errors.formula_parse_error is False
    with pytest.raises(openai.BadRequestError):
        graders.validate(grader=GRADER | {"operation": "roughly"})


def test_a_revoked_key_is_refused_at_once(server: Server, client: OpenAI) -> None:
    made = client.post("/keys", body={"name": "guest", "role": "app"}, cast_to=object)
    guest = server.openai(made["key"])
    assert guest.models.list().data
    with pytest.raises(openai.PermissionDeniedError):
        guest.files.list()
    client.delete(f"/keys/{made['id']}", cast_to=object)
    with pytest.raises(openai.AuthenticationError):
        guest.models.list()


def test_what_a_key_began_ends_though_it_is_revoked(server: Server, client: OpenAI) -> None:
    made: Any = client.post("/keys", body={"name": "leaving", "role": "app"}, cast_to=object)
    server.upstream.scripts.waiting.append(Script(pieces=("on ", "and ", "on"), between_s=0.2))
    other = server.openai(made["key"])
    said = []
    with other.chat.completions.create(
        model="assistant", messages=[{"role": "user", "content": "Go"}], stream=True
    ) as stream:
        for chunk in stream:
            if not said:
                client.delete(f"/keys/{made['id']}", cast_to=object)
            said.append(chunk.choices[0].delta.content or "")
    assert "".join(said) == "on and on"
    with pytest.raises(openai.AuthenticationError):
        other.models.list()


def test_a_stranger_is_refused(server: Server) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        server.openai("bsm-wrong").models.list()
    assert caught.value.code == "invalid_api_key"
