"""The pooled fit recovers what made the data, shrinks what it has not seen, and doubts it more."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer_planner.performance.structure import Level, Recipe, Structure, Tilt, fit_structure

RECIPE = Recipe(
    terms=("read", "fixed"),
    groups={"read": "read", "fixed": "overhead"},
    start=(0.0, 0.0),
    levels=(Level("engine", 0.5), Level("gpu", 0.3, whole=True)),
    noise=0.05,
    base_width=2.0,
    tilts=(Tilt("gemm", "read", 0.5),),
)


def world(rng: np.random.Generator, rows: int = 400) -> tuple[np.ndarray, list[dict[str, str]], np.ndarray]:
    """Two engines on two GPUs: reads take 1.5 or 3 times their peak, GPU `b` is 1.25 times slower throughout."""
    peaks = rng.uniform(0.5, 5.0, (rows, 2))
    values = [{"engine": str(rng.choice(["x", "y"])), "gpu": str(rng.choice(["a", "b"]))} for _ in range(rows)]
    slow = np.array([[1.5 if v["engine"] == "x" else 3.0, 2.0] for v in values])
    wide = np.array([1.25 if v["gpu"] == "b" else 1.0 for v in values])
    return peaks, values, (slow * peaks).sum(axis=1) * wide * np.exp(0.02 * rng.standard_normal(rows))


@pytest.fixture(scope="module")
def fitted() -> Structure:
    peaks, values, seconds = world(np.random.default_rng(0))
    return fit_structure(RECIPE, peaks, values, seconds, np.ones(len(seconds)))


def test_the_fit_recovers_the_coefficients(fitted: Structure) -> None:
    for engine, gpu, read, fixed in (("x", "a", 1.5, 2.0), ("y", "a", 3.0, 2.0), ("y", "b", 3.75, 2.5)):
        assert fitted.coefficients({"engine": engine, "gpu": gpu}) == pytest.approx([read, fixed], rel=0.03)


def test_what_was_never_seen_is_predicted_with_more_doubt(fitted: Structure) -> None:
    peaks = np.array([[1.0, 1.0]])
    known, doubt = fitted.seconds({"engine": "x", "gpu": "a"}, peaks)
    unknown, more = fitted.seconds({"engine": "z", "gpu": "a"}, peaks)
    assert more[0] > 3 * doubt[0]
    assert 0.5 < unknown[0] / known[0] < 3.0


def test_one_bad_row_does_not_steer() -> None:
    peaks, values, seconds = world(np.random.default_rng(1))
    seconds[0] *= 50.0
    fit = fit_structure(RECIPE, peaks, values, seconds, np.ones(len(seconds)))
    assert fit.coefficients({"engine": "x", "gpu": "a"}) == pytest.approx([1.5, 2.0], rel=0.03)


def test_a_tilt_learns_its_slope() -> None:
    rng = np.random.default_rng(2)
    peaks, values, seconds = world(rng)
    amounts = rng.uniform(-1, 1, len(seconds))
    slow = np.array([[1.5 if v["engine"] == "x" else 3.0, 2.0] for v in values])
    wide = np.array([1.25 if v["gpu"] == "b" else 1.0 for v in values])
    tilted = slow * peaks
    tilted[:, 0] *= np.exp(0.4 * amounts)
    fit = fit_structure(
        RECIPE, peaks, values, tilted.sum(axis=1) * wide, np.ones(len(seconds)), tilts=[{"gemm": a} for a in amounts]
    )
    plain = fit.coefficients({"engine": "x", "gpu": "a"})
    steep = fit.coefficients({"engine": "x", "gpu": "a"}, {"gemm": 1.0})
    assert math.log(steep[0] / plain[0]) == pytest.approx(0.4, abs=0.05)
    assert steep[1] == plain[1]


@settings(max_examples=30)
@given(extra=st.floats(0, 10), term=st.integers(0, 1), engine=st.sampled_from(["x", "y", "never"]))
def test_more_work_never_takes_less_time(fitted: Structure, extra: float, term: int, engine: str) -> None:
    peaks = np.array([[1.0, 1.0], [1.0, 1.0]])
    peaks[1, term] += extra
    seconds, _ = fitted.seconds({"engine": engine, "gpu": "a"}, peaks)
    assert seconds[1] >= seconds[0] > 0


def test_a_tilt_over_a_span_scales_its_terms_alike() -> None:
    rng = np.random.default_rng(3)
    peaks = rng.uniform(0.5, 5.0, (400, 3))
    drafts = [{"draft": float(rng.integers(2))} for _ in range(400)]
    halved = np.array([np.exp(-0.5 * tilt["draft"]) for tilt in drafts])
    seconds = 2.0 * (peaks[:, 0] + peaks[:, 1]) * halved + 2.0 * peaks[:, 2]
    recipe = Recipe(
        terms=("read", "fixed", "prefill"),
        groups={"read": "read", "fixed": "overhead", "prefill": "prefill"},
        start=(0.0, 0.0, 0.0),
        levels=(),
        noise=0.05,
        base_width=2.0,
        tilts=(Tilt("draft", "decode", 0.5),),
        spans={"decode": ("read", "fixed")},
    )
    fit = fit_structure(recipe, peaks, [{}] * 400, seconds, np.ones(400), tilts=drafts)
    gain = np.log(fit.coefficients({}, {"draft": 1.0}) / fit.coefficients({}))
    assert gain == pytest.approx([-0.5, -0.5, 0.0], abs=0.02)


def test_a_base_that_is_well_known_stays_near_its_start() -> None:
    peaks, values, seconds = world(np.random.default_rng(4))
    tight = msgspec.structs.replace(RECIPE, base_widths={"fixed": 1e-3})
    fit = fit_structure(tight, peaks, values, seconds, np.ones(len(seconds)))
    assert fit.theta[1] == pytest.approx(0.0, abs=0.02)
    assert fit.theta[0] != pytest.approx(0.0, abs=0.2)
