"""The application's side: journals survive a kill, TOML is what was meant, measures are right and honest."""

import json
import tomllib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.foreign import Quiet, serving

from bessemer.cli.demo import measure, scenario
from bessemer.cli.demo.config import toml
from bessemer.cli.demo.run import run_folder
from bessemer.client import Client
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.datasets import Split
from bessemer.core.routes import Calibration, ConfidenceScore
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
    splits = {split: sum(q.split == split for q in case.plan.questions) for split in Split}
    assert splits == {split: count // 10 for split, count in scenario.Scale().counts}
    (job,) = case.plan.jobs
    assert isinstance(job.method["reinforcement"]["hyperparameters"]["n_epochs"], int)
    assert "bessemer.max_seconds" not in job.metadata


def test_feedback_says_right_or_wrong_and_nothing_else():
    case = scenario.build(0, scenario.Scale.of(smoke=True))
    question = case.plan.questions[0]
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


def test_the_quality_curve_runs_from_the_small_to_the_large_model():
    truth = {str(i): "Yes" if i % 2 else "No" for i in range(40)}
    other = {"Yes": "No", "No": "Yes"}
    small = {
        key: measure.Small(answer=answer(key, right if int(key) >= 10 else other[right]), confidence=int(key) / 40)
        for key, right in truth.items()
    }
    large = {key: right if int(key) < 20 else other[right] for key, right in truth.items()}
    curve = measure.quality_curve(small, large, measure.label_scorer(truth, LABELS, "Yes"), seed=0)
    quality = dict(curve.points)
    assert quality[0.0] == pytest.approx(0.75)
    assert quality[0.25] == 1.0
    assert quality[0.5] == 1.0
    assert quality[1.0] == pytest.approx(0.5)
    assert all(low <= y <= high for (_, y), low, high in zip(curve.points, curve.low, curve.high, strict=True))


def test_the_small_models_failures_are_its_answers_too_and_other_models_calls_are_not():
    def row(question, margin=None, version="small@1", **fields):
        call = {
            "id": f"call-{question}", "inference_id": f"inf-{question}", "step": 0, "version": version,
            "provider": "local", "output": "Yes", "finish_reason": "stop", "input_tokens": 10, "output_tokens": 1,
            "cost_usd": 0.1, "latency_s": 0.1, "created_at": 0.0, "error": None,
            "choice_logprobs": None if margin is None else {"Yes": 0.0, "No": -margin},
        }  # fmt: skip
        record = {
            "id": f"inf-{question}", "route": "r", "created_at": 0.0, "key_id": "k", "messages": [], "input": {},
            "input_sha256": "", "output": None, "finish_reason": None, "version": None, "input_tokens": None,
            "output_tokens": None, "cost_usd": None, "latency_s": 0.1, "propensity": 1.0, "config_sha256": "",
        }  # fmt: skip
        return record | {"tags": {"origin": "final", "question": question}, "calls": [call | fields]}

    rows = [
        row("1", 2.0),
        row("2", output=None, error="context_length_exceeded: too long"),
        row("3", version="large@1"),
    ]

    class Recorded(Quiet):
        def do_GET(self):  # noqa: N802 - http.server calls it so
            known = self.path.startswith("/v1/inferences?") and "route=r" in self.path
            body = json.dumps({"object": "list", "data": rows if known else []}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    calibration = Calibration(
        version="small@1", score=ConfidenceScore.CHOICE_MARGIN, dataset_sha256="", x=(0.0, 4.0), y=(0.1, 0.9)
    )
    cascade = SimpleNamespace(applied=True, calibration=calibration)
    outcome = SimpleNamespace(cascade=cascade, versions={"tuned": "small@1"})
    with serving(Recorded) as url:
        found = measure.small_answers(Client(url, "bsm-x"), outcome, "r", ["1", "2", "3"])
    assert {key: one.confidence for key, one in found.items()} == {"1": pytest.approx(0.5), "2": 0.0}
    assert found["2"].text is None
    assert found["2"].answer.error is not None


def test_a_finished_run_is_followed_by_a_new_one_an_unfinished_one_is_continued(tmp_path):
    first = run_folder(tmp_path, "k")
    assert run_folder(tmp_path, "k") == first
    (first / "finished").touch()
    second = run_folder(tmp_path, "k")
    assert second != first
    assert run_folder(tmp_path, "other") not in (first, second)


def test_the_scale_of_a_smoke_run_states_its_own_bounds():
    full, smoke = (scenario.Scale.of(smoke=smoke) for smoke in (False, True))
    assert full.gate_margin < smoke.gate_margin
    assert full.alpha < smoke.alpha
    assert full.passes == smoke.passes
