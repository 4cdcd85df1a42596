"""The loop: exact resume, silent groups, unscorable answers, collapse, and that rewards move the model."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch
from tests.tuning.conftest import TEMPLATE, local_tuner, tiny_config, tiny_network, tiny_tokens

from bessemer.core.errors import InvalidRequest, TuningError
from bessemer.core.types import JSON
from bessemer.engine.engine import Engine, LoadedModel
from bessemer.engine.lora import Adapter
from bessemer.engine.request import GenerateRequest
from bessemer.evals.grader import Failure
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.accounts import headline, valid_metrics
from bessemer.tuning.methods.exact import ExactSpec
from bessemer.tuning.methods.grpo import GrpoSpec
from bessemer.tuning.methods.supervised import lessons
from bessemer.tuning.selection import CheckpointScorer
from bessemer.tuning.spec import RewardValue, StepReport, TuneSpec, Validation
from bessemer.tuning.tuner import Tuner

BASE = TuneSpec(
    base="tiny",
    method="exact",
    choices=("Yes", "No"),
    rank=4,
    alpha=8.0,
    epochs=2,
    batch_size=4,
    learning_rate=2e-2,
    warmup=0.0,
)


def rows(count: int = 12) -> list[TrainingRow]:
    return [
        TrainingRow(
            messages=({"role": "user", "content": f"{'ab'[i % 2] * 3} {i}"},),
            completion="Yes" if i % 2 else "No",
            item={"label": "Yes" if i % 2 else "No"},
        )
        for i in range(count)
    ]


def label_reward(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
    return [float(text == item["label"]) for item, text in answers]


def length_reward(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
    return [1.0 - len(text.encode()) / 24 for _, text in answers]


def spec_of(method: str) -> TuneSpec:
    if method == "grpo":
        return msgspec.structs.replace(
            BASE, method="grpo", choices=(), own=GrpoSpec(samples_per_prompt=3), max_tokens=6
        )
    return msgspec.structs.replace(BASE, method=method)


def tuner(spec: TuneSpec, folder: Path, model: LoadedModel, reward=label_reward, data=None, clock=None) -> Tuner:
    data = data or rows()
    watch = None if clock is None else clock.watch()
    return local_tuner(spec, data, data[:4], reward, folder, model, watch=watch)


@pytest.mark.parametrize("method", ["sft", "exact", "grpo"])
def test_a_run_stopped_after_any_step_continues_bit_for_bit(method: str, tmp_path: Path, model: LoadedModel) -> None:
    spec = spec_of(method)
    reward = length_reward if method == "grpo" else label_reward
    whole = tuner(spec, tmp_path / "whole", model, reward)
    reports = list(whole.run())
    assert len(reports) == whole.total_steps == 6
    for stop in (1, 4):
        folder = tmp_path / f"stopped-{stop}"
        first = tuner(spec, folder, model, reward)
        for _ in range(stop):
            first.step()
        first.save()
        second = tuner(spec, folder, model, reward)
        assert second.step_number == stop
        rest = list(second.run())
        assert [r.metrics["train_loss"] for r in rest] == [r.metrics["train_loss"] for r in reports[stop:]]
        assert torch.equal(second.backend.trainer.adapter.flat, whole.backend.trainer.adapter.flat)
        assert second.best == whole.best


@pytest.mark.parametrize("method", ["sft", "exact"])
def test_tuning_teaches_the_labels(method: str, tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(spec_of(method), epochs=12)
    run = tuner(spec, tmp_path, model, reward=label_reward if method == "exact" else None)
    reports = list(run.run())
    assert reports[-1].metrics["train_loss"] < 0.5 * reports[0].metrics["train_loss"]
    if method == "exact":
        assert run.best is not None and run.best.mean_reward == 1.0
        assert len(run.best.logprobs) == 4 and run.best.rewards[0] == (0.0, 1.0)


def test_a_length_reward_shortens_what_is_sampled(tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        spec_of("grpo"), epochs=10, max_tokens=24, own=GrpoSpec(samples_per_prompt=6), evaluations=0
    )
    prompt = tuple(model.tokens.encode_chat(rows()[0].messages))

    def sampled_length(run: Tuner) -> float:
        engine = Engine(model)
        engine.add_adapter("x", run.backend.trainer.adapter)
        answers = engine.generate_many(
            [GenerateRequest(prompt=prompt, max_tokens=24, seed=seed, adapter="x") for seed in range(32)]
        )
        return sum(answer.completion_tokens for answer in answers) / len(answers)

    run = tuner(spec, tmp_path, model, length_reward)
    before = sampled_length(run)
    for report in run.run():
        assert report.metrics.get("mismatch_kl", 0.0) < 1e-3
    assert sampled_length(run) < 0.6 * before


@pytest.mark.parametrize("method", ["exact", "grpo"])
def test_equal_rewards_change_nothing_and_stop_the_run_with_a_named_cause(
    method: str, tmp_path: Path, model: LoadedModel
) -> None:
    spec = msgspec.structs.replace(spec_of(method), epochs=20, evaluations=0)
    run = tuner(spec, tmp_path, model, lambda answers: [1.0] * len(answers))
    start = run.backend.trainer.adapter.flat.clone()
    with pytest.raises(TuningError) as raised:
        list(run.run())
    assert raised.value.error_code == "learned_nothing"
    assert "full marks" in raised.value.message
    assert torch.equal(run.backend.trainer.adapter.flat, start)


BROKEN = Failure("invalid_variable_error", "the template refers to 'item.none'")


@pytest.mark.parametrize("method", ["exact", "grpo"])
def test_a_grader_that_fails_too_often_stops_the_run_with_its_own_cause(
    method: str, tmp_path: Path, model: LoadedModel
) -> None:
    spec = spec_of(method)

    def partly(answers: Sequence[tuple[JSON, str]]) -> list[RewardValue]:
        return [BROKEN if i % 3 == 2 else float(i % 2) for i in range(len(answers))]

    run = local_tuner(spec, rows(), [], partly, tmp_path / "partly", model)
    report = run.step()
    assert 0 < report.metrics["grader_failures"] < 0.5
    assert torch.isfinite(run.backend.trainer.adapter.flat).all()
    for validation in ([], rows(4)):
        run = local_tuner(
            spec, rows(), validation, lambda answers: [BROKEN] * len(answers), tmp_path / "all", model=model
        )
        with pytest.raises(TuningError, match=r"100% of the answers .* 'item.none'") as raised:
            run.step()
        assert raised.value.error_code == "invalid_variable_error"


@pytest.mark.parametrize("method", ["exact", "grpo"])
def test_rewards_that_nobody_knows_stop_no_run(method: str, tmp_path: Path, model: LoadedModel) -> None:
    def seldom(answers: Sequence[tuple[JSON, str]]) -> list[RewardValue]:
        return [float(text == "Yes") if i % 5 == 0 else None for i, (_, text) in enumerate(answers)]

    run = local_tuner(
        msgspec.structs.replace(spec_of(method), evaluations=0), rows(), [], seldom, tmp_path, model=model
    )
    assert run.step().metrics["unscorable"] > 0.5
    assert run.step().metrics["grader_failures"] == 0.0


def test_a_run_cut_short_before_it_learned_anything_has_nothing_to_register(tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(spec_of("grpo"), epochs=0.3, evaluations=0)
    run = tuner(spec, tmp_path, model, lambda answers: [0.0] * len(answers))
    list(run.run())
    assert run.done
    with pytest.raises(TuningError, match=r"None of 1 steps .* earned nothing") as raised:
        run.require_learned()
    assert raised.value.error_code == "learned_nothing"


def test_equal_rewards_between_nothing_and_full_marks_are_said_to_be_equal(tmp_path: Path, model: LoadedModel) -> None:
    run = tuner(msgspec.structs.replace(spec_of("exact"), epochs=9), tmp_path, model, lambda pairs: [0.4] * len(pairs))
    with pytest.raises(TuningError, match="the rewards of each group are equal"):
        list(run.run())


def test_a_run_ends_early_only_after_every_row_was_looked_at(tmp_path: Path, model: LoadedModel) -> None:
    """The one row with a signal lies somewhere in an epoch of 60 steps."""
    data = rows(60)
    found = msgspec.structs.replace(data[37], item={"label": "Yes", "hard": True})
    data[37] = found

    def one_in_sixty(answers: Sequence[tuple[JSON, str]]) -> list[RewardValue]:
        return [length_reward([(item, text)])[0] if item.get("hard") else 0.0 for item, text in answers]

    spec = msgspec.structs.replace(
        spec_of("exact"), batch_size=1, epochs=2, evaluations=0, own=ExactSpec(objective="reward")
    )
    run = local_tuner(spec, data, [], one_in_sixty, tmp_path, model)
    reports = list(run.run())
    assert len(reports) >= 60
    run.require_learned()
    assert any("10 steps in a row" in (report.note or "") for report in reports)


def test_what_a_grader_could_not_score_is_asked_again(tmp_path: Path, model: LoadedModel) -> None:
    down = iter([True])

    def flaky(answers: Sequence[tuple[JSON, str]]) -> list[RewardValue]:
        lost = next(down, False)
        return [BROKEN if lost and i % 3 == 2 else value for i, value in enumerate(label_reward(answers))]

    spec = msgspec.structs.replace(spec_of("exact"), evaluations=0, revisit=1.0)
    reports = list(tuner(spec, tmp_path, model, flaky).run())
    assert reports[0].metrics["unscorable"] > 0
    assert all(report.metrics["unscorable"] == 0 for report in reports[3:])


def test_a_run_that_has_learned_all_there_is_ends_with_its_best(tmp_path: Path, model: LoadedModel) -> None:
    calls = itertools.count()

    def soon_content(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
        return length_reward(answers) if next(calls) < 2 else [1.0] * len(answers)

    spec = msgspec.structs.replace(
        spec_of("grpo"), epochs=50, evaluations=1, max_tokens=24, own=GrpoSpec(samples_per_prompt=6)
    )
    run = tuner(spec, tmp_path, model, soon_content)
    reports = list(run.run())
    assert len(reports) < run.total_steps / 5
    assert "nothing left to learn" in (reports[-1].note or "")
    assert reports[-1].saved
    assert run.best is not None
    assert run.best.step == reports[-1].step


@pytest.mark.parametrize("method", ["exact", "grpo"])
def test_a_validation_that_cannot_be_scored_chooses_nothing(method: str, tmp_path: Path, model: LoadedModel) -> None:
    def labelled(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
        return [None if "label" not in item else float(len(text) % 2) for item, text in answers]

    unlabelled = [msgspec.structs.replace(row, item={}) for row in rows(4)]
    run = local_tuner(spec_of(method), rows(), unlabelled, labelled, tmp_path, model)
    reports = list(run.run())
    assert run.best is None
    validated = [report for report in reports if report.validation is not None]
    assert validated
    for report in validated:
        assert report.validation.score is None
        assert "could be scored" in (report.note or "")
        assert msgspec.json.decode(msgspec.json.encode(report), type=StepReport) == report


class NoJudge(CheckpointScorer):
    def score(self, validation: Validation) -> float:
        return math.nan


def test_a_score_that_is_not_a_number_chooses_nothing(tmp_path: Path, model: LoadedModel) -> None:
    data = rows()
    run = local_tuner(spec_of("exact"), data, data[:4], label_reward, tmp_path, model, NoJudge())
    list(run.run())
    assert run.best is None


@pytest.mark.parametrize("method", ["sft", "exact", "grpo"])
def test_a_broken_gradient_rolls_back_once_then_fails(method: str, tmp_path: Path, model: LoadedModel) -> None:
    reward = length_reward if method == "grpo" else label_reward if method == "exact" else None
    run = tuner(msgspec.structs.replace(spec_of(method), evaluations=0, epochs=20), tmp_path, model, reward)
    run.step()
    run.save()
    good = run.backend.trainer.adapter.flat.clone()
    rate = run.step().metrics["learning_rate"]
    run.backend.trainer.adapter.flat.fill_(float("nan"))
    run.backend.trainer.adapter.changed()
    broken = run.step()
    assert all(math.isfinite(value) for value in broken.metrics.values())
    assert broken.metrics["tokens"] >= 0
    assert torch.equal(run.backend.trainer.adapter.flat, good)
    assert run.step().metrics["learning_rate"] < 0.6 * rate
    run.backend.trainer.adapter.flat.fill_(float("nan"))
    run.backend.trainer.adapter.changed()
    with pytest.raises(TuningError) as raised:
        run.step()
    assert raised.value.error_code == "nan_loss"


@pytest.fixture
def knowing(tmp_path: Path, model: LoadedModel) -> TuneSpec:
    """A run that goes on from a model that knows its rows fairly well."""
    calm = msgspec.structs.replace(spec_of("sft"), epochs=8, evaluations=0)
    first = local_tuner(calm, rows(), [], None, tmp_path / "calm", model)
    assert list(first.run())[-1].metrics["train_loss"] < 1.0
    first.export(tmp_path / "adapter")
    return msgspec.structs.replace(calm, adapter=str(tmp_path / "adapter"), evaluations=8, epochs=24)


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_that_diverges_without_nan_stops(
    knowing: TuneSpec, tmp_path: Path, model: LoadedModel, *, validated: bool
) -> None:
    wild = msgspec.structs.replace(knowing, learning_rate=50.0)
    run = local_tuner(wild, rows(), rows(4) if validated else [], None, tmp_path / "wild", model)
    with pytest.raises(TuningError, match="diverged") as raised:
        list(run.run())
    assert raised.value.error_code == "diverged"
    assert run.step_number < run.total_steps / 2


def test_what_was_better_than_the_start_outlives_a_divergence(
    knowing: TuneSpec, tmp_path: Path, model: LoadedModel
) -> None:
    run = local_tuner(knowing, rows(), rows(4), None, tmp_path / "run", model)
    while run.best is None or run.best.step == 0:
        run.step()
    run.backend.trainer.adapter.flat.normal_(std=30.0, generator=torch.Generator().manual_seed(0))
    run.backend.trainer.adapter.changed()
    best, reports = run.best, list(run.run())
    assert "diverged" in (reports[-1].note or "")
    assert reports[-1].step < run.total_steps
    assert run.best == best


def test_every_run_with_validation_rows_knows_where_it_began(tmp_path: Path, model: LoadedModel) -> None:
    for method in ("sft", "exact", "grpo"):
        reward = length_reward if method == "grpo" else label_reward if method == "exact" else None
        run = local_tuner(spec_of(method), rows(), rows(4), reward, tmp_path / method, model)
        run.step()
        again = local_tuner(spec_of(method), rows(), rows(4), reward, tmp_path / method, model)
        assert run.start is not None
        assert again.start == run.start
        assert run.start.validation.score is not None
        assert len(run.start.validation.row_scores) == 4


def test_weights_scale_the_share_of_a_row(tmp_path: Path, model: LoadedModel) -> None:
    """A row of weight 0 is as good as absent; weights of a batch count relative to each other."""
    data = rows(4)
    silent = [msgspec.structs.replace(row, weight=0.0 if i % 2 else 3.0) for i, row in enumerate(data)]
    for method in ("sft", "exact"):
        spec = spec_of(method)
        one = local_tuner(spec, silent, (), label_reward, tmp_path / f"{method}1", model)
        two = local_tuner(spec, data[::2], (), label_reward, tmp_path / f"{method}2", model)
        losses = (one.step().metrics["train_loss"], two.step().metrics["train_loss"])
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_time_cap_ends_the_run_with_a_final_evaluation(tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(spec_of("sft"), epochs=10_000, max_seconds=0.5)
    reports = list(tuner(spec, tmp_path, model, None).run())
    assert len(reports) < 30_000
    assert reports[-1].saved and reports[-1].validation is not None


def test_long_rows_are_listed(tmp_path: Path, model: LoadedModel) -> None:
    data = [*rows(2), TrainingRow(messages=({"role": "user", "content": "x" * 500},), completion="No", item={})]
    with pytest.raises(InvalidRequest, match=r"1 of 3 rows .* \(row 3: 5\d\d\)"):
        tuner(spec_of("sft"), tmp_path, model, None, data)


def test_export_holds_the_best_adapter(tmp_path: Path, model: LoadedModel) -> None:
    run = tuner(spec_of("exact"), tmp_path / "state", model)
    list(run.run())
    run.export(tmp_path / "adapter")
    again = local_tuner(
        msgspec.structs.replace(spec_of("exact"), adapter=str(tmp_path / "adapter")),
        rows(),
        rows()[:4],
        label_reward,
        tmp_path / "again",
        model=model,
    )
    assert again.evaluate().logprobs == run.best.logprobs


def test_a_run_from_an_adapter_that_only_makes_it_worse_gives_it_back(tmp_path: Path, model: LoadedModel) -> None:
    first = tuner(spec_of("exact"), tmp_path / "state", model)
    list(first.run())
    first.export(tmp_path / "adapter")
    harmful = msgspec.structs.replace(spec_of("exact"), adapter=str(tmp_path / "adapter"), learning_rate=3.0)
    second = tuner(harmful, tmp_path / "worse", model)
    for report in second.run():
        if report.validation is not None:
            assert report.validation.score <= first.best.score
    assert second.best.step == 0
    second.export(tmp_path / "same")
    assert Adapter.load(tmp_path / "same", model.network.config, model.network.dtype).fingerprint() == (
        Adapter.load(tmp_path / "adapter", model.network.config, model.network.dtype).fingerprint()
    )


def test_the_field_threshold_is_what_the_grader_likes_best(tmp_path: Path, model: LoadedModel) -> None:
    letters = list("abcdefghijklmnopqrstuvwxyz")
    schema = {"type": "object", "properties": {"a": {"enum": letters}}, "required": ["a"]}
    spec = msgspec.structs.replace(spec_of("grpo"), response_schema=schema, max_tokens=24, field_threshold=None)

    def doubtful_values_are_wrong(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
        return [1.0 if text == "{}" else 0.0 for _, text in answers]

    def every_value_counts(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
        return [float('"a"' in text) for _, text in answers]

    dropped = tuner(spec, tmp_path / "dropped", model, doubtful_values_are_wrong).evaluate()
    assert dropped.score == 1.0
    assert dropped.field_threshold > 0
    kept = tuner(spec, tmp_path / "kept", model, every_value_counts).evaluate()
    assert (kept.score, kept.field_threshold) == (1.0, 0.0)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-4)])
def test_sampler_and_trainer_agree_under_a_schema(tmp_path: Path, dtype: torch.dtype, most: float) -> None:
    """In bfloat16, which real runs use, as far as its eight bits of mantissa let them."""
    model = LoadedModel(tiny_network(tiny_config(), dtype), tiny_tokens())
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "required": ["a"]}
    spec = msgspec.structs.replace(spec_of("grpo"), response_schema=schema, max_tokens=24)
    reports = list(tuner(spec, tmp_path, model, length_reward).run())
    agreed = [report.metrics["mismatch_kl"] for report in reports if "mismatch_kl" in report.metrics]
    assert agreed
    assert max(map(abs, agreed)) < most


def conversation(*answers: str, taught: tuple[int, ...] = ()) -> TrainingRow:
    *earlier, last = answers
    messages: list[JSON] = [{"role": "user", "content": "one?"}]
    for answer in earlier:
        messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and?"}]
    return TrainingRow(messages=tuple(messages), completion=last, item={}, taught=taught)


def test_every_demonstrated_turn_is_taught_after_what_the_model_is_shown_before_it(model: LoadedModel) -> None:
    row = conversation("first", "masked", "last", taught=(1,))
    tokens = model.tokens
    (lesson,) = lessons(tokens, row)
    branch = lesson.tree.branches[0]
    assert tokens.encode_chat(row.messages[:1]) == list(lesson.tree.prompt)
    assert tokens.encode_chat(row.messages) + tokens.encode_completion("last") == [*lesson.tree.prompt, *branch]
    learned = [token for token, taught in zip(branch, lesson.taught, strict=True) if taught]
    assert learned == tokens.encode_completion("first") + tokens.encode_completion("last")


def test_a_template_that_renders_earlier_turns_otherwise_gives_each_turn_a_lesson(model: LoadedModel) -> None:
    tokens = tiny_tokens(TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] if loop.last else '-' }}"))
    row = conversation("first", "last", taught=(1,))
    read = lessons(tokens, row)
    assert [list(lesson.tree.branches[0]) for lesson in read] == [
        tokens.encode_completion(text) for text in ("first", "last")
    ]
    assert list(read[1].tree.prompt) == tokens.encode_chat(row.messages)


def test_a_conversation_teaches_the_same_as_its_turns_one_by_one(tmp_path: Path, model: LoadedModel) -> None:
    whole = conversation("first", "second", "third", taught=(1, 3))
    turns = [conversation("first"), conversation("first", "second"), conversation("first", "second", "third")]

    def run(name: str, data: list[TrainingRow]) -> Tuner:
        spec = msgspec.structs.replace(spec_of("sft"), batch_size=len(data))
        return local_tuner(spec, data, data, None, tmp_path / name, model)

    one, many = run("one", [whole]), run("many", turns)
    assert one.evaluate().loss == pytest.approx(many.evaluate().loss, rel=1e-4)
    assert one.step().metrics["train_loss"] == pytest.approx(many.step().metrics["train_loss"], rel=1e-4)
    assert torch.allclose(one.backend.trainer.adapter.flat, many.backend.trainer.adapter.flat, atol=1e-4)


def test_a_masked_turn_changes_nothing_but_what_follows(tmp_path: Path, model: LoadedModel) -> None:
    """The words of a turn with weight 0 are read, and not learned."""
    spec = msgspec.structs.replace(spec_of("sft"), epochs=30)
    row = conversation("QQQQ", "fine")
    run = local_tuner(spec, [row] * 4, [row], None, tmp_path, model)
    asked = TrainingRow(messages=row.messages[:1], completion="QQQQ", item={})
    before, after = (local_tuner(spec, [asked], [asked], None, tmp_path / name, model) for name in ("before", "after"))
    list(run.run())
    after.backend.trainer.adapter.flat.copy_(run.backend.trainer.adapter.flat)
    after.backend.trainer.adapter.changed()
    taught = local_tuner(
        spec, [conversation("QQQQ", "fine", taught=(1,))] * 4, [row], None, tmp_path / "t", model=model
    )
    list(taught.run())
    assert taught.evaluate().loss is not None
    before.backend.trainer.adapter.flat.copy_(taught.backend.trainer.adapter.flat)
    before.backend.trainer.adapter.changed()
    assert before.evaluate().loss < 0.5 * after.evaluate().loss


def test_rows_longer_than_the_model_is_served_with_are_refused(tmp_path: Path, model: LoadedModel) -> None:
    data = [*rows(2), TrainingRow(messages=({"role": "user", "content": "x" * 100},), completion="No", item={})]
    tuner(spec_of("sft"), tmp_path / "fits", model, None, data)
    for method in ("sft", "exact", "grpo"):
        spec = msgspec.structs.replace(spec_of(method), context_tokens=100)
        with pytest.raises(InvalidRequest, match=r"1 of 3 rows .*\(row 3: 1\d\d\): shorten or remove them"):
            tuner(spec, tmp_path / method, model, label_reward, data)


def test_sampled_answers_that_nobody_judged_do_not_make_a_score(tmp_path: Path, model: LoadedModel) -> None:
    """One answer is known to be right, three are unknown: the mean is not 1."""
    data = [msgspec.structs.replace(row, item={"place": place}) for place, row in enumerate(rows(4))]
    run = tuner(spec_of("grpo"), tmp_path, model, lambda pairs: [[1.0, None][i["place"] > 0] for i, _ in pairs], data)
    start = run.begin()
    assert start is not None
    found = start.validation
    assert (found.score, found.mean_reward, found.unknown) == (0.25, None, 3)
    assert found.reward_bounds == (0.25, 1.0)
    assert found.row_bounds == ((1.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    assert headline({}, found) == ["validation reward 0.250 to 1.000 (3 answers that nobody judged)"]
    assert valid_metrics(found)["valid_unknown"] == 3


def test_a_reward_that_is_the_mean_exactly_weighs_like_its_neighbours(tmp_path: Path, model: LoadedModel) -> None:
    norms = []
    for middle in (0.5, 0.5 + 1e-6):
        spec = msgspec.structs.replace(spec_of("grpo"), evaluations=0, clip_norm=1e9, max_tokens=180)
        values = itertools.cycle((0.0, middle, 1.0))
        run = tuner(spec, tmp_path / str(middle), model, lambda pairs, values=values: [next(values) for _ in pairs])
        norms.append(run.step().metrics["grad_norm"])
    assert norms[0] > 0
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
