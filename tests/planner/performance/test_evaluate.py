"""The evaluation of a file: scores by hand on few rows, and the shipped calibration on the measured file."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.planner.performance.test_measured import HEADER

from bessemer.core.errors import ConfigError
from bessemer.planner.catalog import Catalog
from bessemer.planner.performance import evaluate
from bessemer.planner.performance.calibrate import Problem
from bessemer.planner.performance.evaluate import jackknife_quantile


def test_the_shipped_calibration_fits_what_it_was_fitted_to(measured: Path, catalog: Catalog, tmp_path: Path) -> None:
    lines = measured.read_text().splitlines()
    sample = tmp_path / "sample.csv"
    sample.write_text("\n".join([lines[0], *lines[1::12]]) + "\n")
    found = evaluate(sample, catalog.accelerators)
    assert found.rows > 150
    assert found.rows_in_calibration > 0.5 * found.rows
    assert found.tpot_mape < 15
    assert found.throughput_rank_correlation > 0.95
    assert set(found.by_framework) == {"vllm", "sglang", "trtllm"}
    assert sum(score.rows for score in found.by_gpu.values()) == found.rows
    assert all(bad.reason for bad in found.bad_rows)
    assert all(r.predicted_tpot_ms[1] < r.predicted_tpot_ms[0] < r.predicted_tpot_ms[2] for r in found.results)
    assert msgspec.json.decode(msgspec.json.encode(found))["file"] == "sample.csv"


@pytest.mark.parametrize("row", ["", "b,x,vllm,1,acme/Nobody-9B,h100_sxm,fp8,agg,8,8,1,1,1,1,1,,,,,,1,1\n"])
def test_a_file_without_aggregated_rows_is_refused(catalog: Catalog, tmp_path: Path, row: str) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text(HEADER + row)
    with pytest.raises(ConfigError, match="no aggregated row"):
        evaluate(empty, catalog.accelerators)


def test_the_jackknife_never_looks_at_its_own_group() -> None:
    seconds = np.ones(200)
    problem = Problem(np.ones((200, 1)), [{}] * 200, [{}] * 200, seconds, seconds)
    predicted = np.exp(np.concatenate([np.linspace(0, 1, 100), np.linspace(0, 5, 100)]))
    quantiles = jackknife_quantile(predicted, problem, np.ones(200), ["a"] * 100 + ["b"] * 100)
    assert quantiles[0] == pytest.approx(4.0, abs=0.05)
    assert quantiles[-1] == pytest.approx(0.8, abs=0.01)
