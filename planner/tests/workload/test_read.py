"""Workload files: what is accepted, and the one error that names field and remedy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer_planner.errors import InputError
from bessemer_planner.workload import Lengths, parse_workload

BASE = """
name = "x"
[traffic]
requests_per_month = 1000
prompt_tokens = { mean = 1000, p95 = 2500 }
output_tokens = { mean = 300 }
[[models]]
name = "llama-3.1-8b"
"""


def test_a_small_file_has_all_defaults() -> None:
    workload = parse_workload(BASE)
    assert workload.limits.ttft_s == 2.0
    assert workload.share("llama-3.1-8b") == 1.0
    assert workload.output_tokens("llama-3.1-8b").mean == 300


def test_a_cascade_gives_the_small_model_everything() -> None:
    text = BASE + '[[models]]\nname = "b"\n[cascade]\nsmall = "llama-3.1-8b"\nlarge = "b"\nescalated = 0.2\n'
    workload = parse_workload(text)
    assert (workload.share("llama-3.1-8b"), workload.share("b")) == (1.0, 0.2)


@pytest.mark.parametrize(
    ("text", "field", "remedy"),
    [
        (BASE + "shar = 2\n", "models.0.shar", "did you mean 'share'"),
        (BASE.replace("mean = 1000", "men = 1000"), "traffic.prompt_tokens.men", "did you mean 'mean'"),
        (BASE + "[limits]\nttft = 1\n", "limits.ttft", "did you mean 'ttft_s'"),
        (BASE + "[surprise]\n", "surprise", "known here"),
        (BASE.replace("= 1000\n", "= -5\n", 1), "traffic.requests_per_month", ">= 1"),
        (BASE.replace("= 1000\n", "= inf\n", 1), "traffic.requests_per_month", "<= "),
        (BASE.replace("mean = 1000", "mean = nan"), "traffic.prompt_tokens.mean", "correct it"),
        (BASE.replace("requests_per_month = 1000\n", ""), "traffic.requests_per_month", "add it"),
        (BASE.replace("p95 = 2500", "p95 = 25000"), "traffic.prompt_tokens.p95", "quantiles"),
        (BASE.replace("p95 = 2500", "p95 = 500"), "traffic.prompt_tokens.p95", "correct"),
        (BASE + "share = 0.5\n", "models", "add up to 1"),
        (BASE + '[sovereignty]\nownership = ["moon"]\n', "sovereignty.ownership.0", "cloud"),
        (BASE + "[sovereignty]\nownership = []\n", "sovereignty.ownership", "name cloud"),
        (BASE + '[cascade]\nsmall = "q"\nlarge = "llama-3.1-8b"\nescalated = 0.2\n', "cascade.small", "add it"),
        (BASE.replace("[[models]]", "hours = [1, 2]\n[[models]]"), "traffic.hours", "one per hour"),
        (BASE + "[fleet.quota]\na = 0\n", "fleet.quota", ">= 1"),
        (BASE + '[[tuning]]\nname = "q"\n', "tuning.0.accelerator_hours", "add it"),
        (BASE.replace("[[models]]", f"hours = [{', '.join(['inf'] * 24)}]\n[[models]]"), "traffic.hours.0", "<= "),
        (BASE.replace("[[models]]", f"months = [inf, {'1, ' * 11}]\n[[models]]"), "traffic.months.0", "<= "),
        (BASE.replace("p95 = 2500", "quantiles = [1, inf]"), "traffic.prompt_tokens.quantiles.1", "<= "),
        (BASE.replace("p95 = 2500", "quantiles = [1, 2, 3]"), "traffic.prompt_tokens.mean", "outside the quantiles"),
        (BASE + "[money]\nvalue_per_month = inf\n", "money.value_per_month", "<= "),
        (BASE + "[time]\nlead_time_months = inf\n", "time.lead_time_months", "<= "),
        (BASE + '[[tuning]]\nname = "q"\naccelerator_hours = 1e15\n', "tuning.0.accelerator_hours", "<= "),
        ("name = [", "file", "not valid TOML"),
        (BASE + "[limits]\nttft_s = 2000\n", "limits.ttft_s", "looks like milliseconds; write 2, or"),
        (BASE + "[limits]\ntpot_s = 50\n", "limits.tpot_s", "looks like milliseconds; write 0.05, or"),
        (BASE + "[money]\nelectricity_per_kwh = 25\n", "money.electricity_per_kwh", "0.25 if it is cents"),
        (
            BASE + '[sovereignty]\nownership = ["own"]\n[fleet]\ninstances = ["p5.48xlarge"]\n',
            "fleet.instances",
            'add "cloud" there',
        ),
    ],
)
def test_a_wrong_field_is_named_with_the_remedy(text: str, field: str, remedy: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_workload(text)
    assert refused.value.param == field
    assert remedy in refused.value.message
    assert "\n" not in refused.value.message.strip()


@given(st.floats(1, 1e5), st.floats(1.0, 3.85))
def test_log_normal_lengths_have_the_mean_and_percentile_asked_for(mean: float, ratio: float) -> None:
    lengths = Lengths(mean=mean, p95=mean * ratio)
    sigma = lengths.sigma
    mu = math.log(mean) - sigma**2 / 2
    assert math.exp(mu + 1.6448536 * sigma) == pytest.approx(mean * ratio, rel=1e-6)


def test_samples_follow_the_distribution() -> None:
    drawn = Lengths(mean=1000, p95=2500).sample(np.random.default_rng(0), 200_000)
    assert drawn.mean() == pytest.approx(1000, rel=0.02)
    assert np.quantile(drawn, 0.95) == pytest.approx(2500, rel=0.02)
    empirical = Lengths(mean=5, quantiles=(1, 2, 3, 10)).sample(np.random.default_rng(0), 1000)
    assert empirical.min() >= 1
    assert empirical.max() <= 10
