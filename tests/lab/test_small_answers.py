"""The small model's own answers are found in the records, and the curve runs from it to the large one."""

import json
from types import SimpleNamespace

import pytest
from tests.cli.foreign import Quiet, serving

from bessemer.cli.demo import measure
from bessemer.client import Client
from bessemer.client.loop import ApplicationAnswer
from bessemer.core.routes import Calibration, ConfidenceScore
from lab import small_answers

LABELS = ("Yes", "No")


def answer(question, text, **fields):
    values = {
        "question": question, "inference_id": f"inf-{question}", "text": text, "version": "small@1",
        "provider": "local", "cost_usd": 0.001, "escalated": False,
        "input_tokens": 10, "output_tokens": 2, "latency_s": 0.1,
    }  # fmt: skip
    return ApplicationAnswer(**(values | fields))


def test_the_quality_curve_runs_from_the_small_to_the_large_model():
    truth = {str(i): "Yes" if i % 2 else "No" for i in range(40)}
    other = {"Yes": "No", "No": "Yes"}
    small = {
        key: small_answers.Small(
            answer=answer(key, right if int(key) >= 10 else other[right]), confidence=int(key) / 40
        )
        for key, right in truth.items()
    }
    large = {key: right if int(key) < 20 else other[right] for key, right in truth.items()}
    curve = small_answers.quality_curve(small, large, measure.label_scorer(truth, LABELS, "Yes"), seed=0)
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
        found = small_answers.small_answers(Client(url, "bsm-x"), outcome, "r", ["1", "2", "3"])
    assert {key: one.confidence for key, one in found.items()} == {"1": pytest.approx(0.5), "2": 0.0}
    assert found["2"].text is None
    assert found["2"].answer.error is not None
