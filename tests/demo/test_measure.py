"""The application's side: journals survive a kill, TOML is what was meant, measures are right and honest."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.cli.demo import measure, scenario
from bessemer.cli.demo.config import toml
from bessemer.cli.demo.run import run_folder
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.datasets import Split
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.config import load_config

LABELS = ("Yes", "No")


def answer(question, text, **fields):
    values = {
        "question": question, "inference_id": f"inf-{question}", "text": text, "version": "small@1",
        "provider": "local", "cost_usd": 0.001, "escalated": False,
        "input_tokens": 10, "output_tokens": 2, "latency_s": 0.1,
    }  # fmt: skip
    return ApplicationAnswer(**(values | fields))


names = st.text(min_size=1, max_size=8)
values = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(), max_size=3),
)


@given(st.dictionaries(names, st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values), max_size=3))
def test_written_toml_reads_back(tables):
    assert tomllib.loads(toml({"models": tables}, include_default=False)).get("models", {}) == tables


def test_nested_tables_follow_their_parent_and_none_is_left_out():
    text = toml({"models": {"m": {"recorded": {"key": "k", "gone": None}, "path": "p", "price": None}}})
    assert tomllib.loads(text) == {"include_default": True, "models": {"m": {"path": "p", "recorded": {"key": "k"}}}}


def test_the_demo_configuration_is_accepted(tmp_path):
    path = tmp_path / "bessemer.toml"
    path.write_text(scenario.configuration(tmp_path / "w.gguf", "http://127.0.0.1:1/v1", scenario.Scale()))
    config = load_config(path, tmp_path, SETTINGS)
    assert config.routes[scenario.ROUTE].steps[0].targets[0].model == scenario.INCUMBENT
    assert config.prompts[scenario.PROMPT].choices == LABELS
    meters = {name: config.prices[config.models[name].price] for name in (scenario.MODEL, scenario.INCUMBENT)}
    assert meters[scenario.MODEL].per_hour and not meters[scenario.MODEL].input_per_million
    assert meters[scenario.INCUMBENT].input_per_million and not meters[scenario.INCUMBENT].per_hour
    assert all(price.source.startswith(("AWS", "OpenAI")) and price.date for price in meters.values())


def test_a_smoke_run_asks_a_tenth_and_nothing_is_bounded_by_the_clock():
    case = scenario.build(0, scenario.Scale.of(smoke=True))
    splits = {split: sum(q.split == split for q in case.questions) for split in Split}
    assert splits == {split: count // 10 for split, count in scenario.Scale().counts}
    assert isinstance(scenario.method(case.scale)["reinforcement"]["hyperparameters"]["n_epochs"], int)
    assert "bessemer.max_seconds" not in scenario.OPTIONS


def test_feedback_says_right_or_wrong_and_nothing_else():
    case = scenario.build(0, scenario.Scale.of(smoke=True))
    question = case.questions[0]
    right = case.truth[question.id]
    wrong = LABELS[1 - LABELS.index(right)]
    assert [case.feedback(question, answer(question.id, text))[0]["value"] for text in (right, wrong, None)] == [
        True,
        False,
        False,
    ]
    assert "simulated" in case.feedback(question, answer(question.id, right))[0]["author"]


def test_a_system_row_is_f1_cost_and_share_of_the_small_version():
    truth = {"1": "Yes", "2": "No", "3": "Yes", "4": "No"}
    answers = [
        answer("1", "Yes"),
        answer("2", "Yes"),
        answer("3", "No", version="large@1", cost_usd=0.005),
        answer("4", "No"),
    ]
    row = measure.system_row("s", answers, measure.label_scorer(truth, LABELS, "Yes"), seed=0, small="small@1")
    assert row.score.value == pytest.approx(0.5)
    assert row.cost_per_1k_usd == pytest.approx(2.0)
    assert row.small_share == 0.75
    assert row.label == ""


def test_unknown_cost_stays_unknown_and_recorded_is_labelled():
    row = measure.system_row(
        "s",
        [answer("1", "Yes", cost_usd=None, provider="recorded")],
        measure.label_scorer({"1": "Yes"}, LABELS, "Yes"),
        seed=0,
    )
    assert row.cost_per_1k_usd is None
    assert row.label == "recorded"
    assert row.small_share is None


def test_a_finished_run_is_followed_by_a_new_one_an_unfinished_one_is_continued(tmp_path):
    first = run_folder(tmp_path, "k")
    assert run_folder(tmp_path, "k") == first
    (first / "finished").touch()
    second = run_folder(tmp_path, "k")
    assert second != first
    assert run_folder(tmp_path, "other") not in (first, second)


def test_the_scale_of_a_smoke_run_states_its_own_bounds():
    full, smoke = (scenario.Scale.of(smoke=smoke) for smoke in (False, True))
    assert (full.tune, smoke.tune) == (None, True), "a smoke run takes every step"
    assert [scenario.Scale.of(smoke=smoke, ladder_only=True).tune for smoke in (False, True)] == [False, False]
    assert full.gate_margin < smoke.gate_margin
    assert full.alpha < smoke.alpha
    assert full.passes == smoke.passes
