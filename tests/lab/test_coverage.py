"""Requirement: the guarantee over rungs holds on recorded answers of real data, where the naive rule does not."""

import os
from pathlib import Path

import numpy as np
import pytest

from bessemer.evals.risk import Loss
from lab.coverage import ALPHA, FILES, RecordedRungs, coverage, guaranteed, naive, record

ROOT = Path(os.environ.get("BESSEMER_LAB_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def made(seed: int, n: int = 3_000) -> RecordedRungs:
    """Three rungs, each surer of what it is right about, the last one nearly always right."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(size=(n, 1))
    chances = np.clip(np.array([0.75, 0.88, 0.97]) + 0.12 * ease, 0.34, 0.999)
    return RecordedRungs(chances, (rng.uniform(size=(n, 3)) < chances).astype(float))


def test_the_guarantee_holds_on_made_answers_where_the_naive_rule_does_not() -> None:
    ours = coverage(made(0), Loss(ALPHA), 600, 40, guaranteed(1))
    control = coverage(made(0), Loss(ALPHA), 600, 40, naive)
    assert ours.broken <= ours.allowed < control.broken
    assert ours.mean_cost < 1_011


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_l17_the_guarantee_holds_on_real_answers_where_the_naive_rule_does_not(name: str) -> None:
    if not (ROOT / FILES[name]).is_file():
        pytest.skip(f"{FILES[name]} is not under {ROOT} (set BESSEMER_LAB_DATA): python -m lab.sources says whence")
    recorded = record(name, ROOT)
    ours = coverage(recorded, Loss(ALPHA), 200, 200, guaranteed(1))
    control = coverage(recorded, Loss(ALPHA), 200, 200, naive)
    assert ours.broken <= ours.allowed < control.broken
