"""The evaluation of a file: scores by hand on few rows, and the shipped calibration on the measured file."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from planner.tests.performance.test_measured import HEADER

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import InputError
from bessemer_planner.performance import evaluate, evaluate_held_out
from bessemer_planner.performance.calibrate import FitProblem
from bessemer_planner.performance.evaluate import jackknife_quantile

MODEL = "meta-llama/Llama-3.1-8B"


def test_the_shipped_calibration_fits_what_it_was_fitted_to(
    measured: Path, catalog: HardwareCatalog, tmp_path: Path
) -> None:
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


def test_a_file_without_aggregated_rows_is_refused(catalog: HardwareCatalog, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text(HEADER)
    with pytest.raises(InputError, match=r"no aggregated row to evaluate \(0 disaggregated, 0 left out\)"):
        evaluate(empty, catalog.accelerators)
    broken = tmp_path / "broken.csv"
    broken.write_text(HEADER + "b,x\n")
    with pytest.raises(InputError, match=r"0 disaggregated, 1 left out; the first: b, unreadable: line 2"):
        evaluate(broken, catalog.accelerators)


def test_disaggregated_rows_alone_are_reported(catalog: HardwareCatalog, tmp_path: Path) -> None:
    apart = tmp_path / "apart.csv"
    apart.write_text(
        HEADER
        + f"a,x,vllm,1,{MODEL},h100_sxm,fp8,disagg,1024,128,,,,,,8,1,1,1,1,100,10\n"
        + f"b,x,vllm,1,{MODEL},h100_sxm,fp8,disagg,1024,128,,,,,,8,1,1,1,1,100,1e-9\n"
    )
    found = evaluate(apart, catalog.accelerators)
    assert (found.rows, found.tpot_mape, found.throughput_rank_correlation, found.by_gpu) == (0, None, None, {})
    assert found.disaggregated is not None
    assert [one.id for one in found.bad_rows] == ["b"]
    assert found.disaggregated.rows == 1
    assert found.disaggregated.tpot_mape < 100
    assert msgspec.json.decode(msgspec.json.encode(found))["interval_coverage_80"] is None
    with pytest.raises(InputError, match="no aggregated row to evaluate"):
        evaluate_held_out(apart, catalog.accelerators)


def test_an_accelerator_may_have_its_other_name(catalog: HardwareCatalog, tmp_path: Path) -> None:
    rows = "".join(f"{n},x,vllm,1,{MODEL},{n},fp8,agg,1024,128,8,1,1,1,1,,,,,,100,10\n" for n in ("H100", "h100_sxm"))
    path = tmp_path / "alias.csv"
    path.write_text(HEADER + rows)
    found = evaluate(path, catalog.accelerators, aliases=catalog.aliases)
    assert (found.rows, found.bad_rows, set(found.by_gpu)) == (2, (), {"h100_sxm"})
    assert len(evaluate(path, catalog.accelerators).bad_rows) == 1


def test_an_impossible_time_is_kept_out_of_all_rows_and_said(catalog: HardwareCatalog, tmp_path: Path) -> None:
    def row(name: str, ttft: str, tpot: str) -> str:
        return f"{name},{name},vllm,1,{MODEL},h100_sxm,fp8,agg,1024,128,8,1,1,1,1,,,,,,{ttft},{tpot}\n"

    path = tmp_path / "absurd.csv"
    waited = row("waited", "9000", "10")
    path.write_text(HEADER + row("fine", "100", "10") + row("absurd", "100", "1e-9") + waited)
    found = evaluate(path, catalog.accelerators)
    assert [one.id for one in found.bad_rows] == ["absurd", "waited"]
    assert "cannot be read that fast" in found.bad_rows[0].reason
    assert any("`all_rows`" in rule for rule in found.rules)
    assert found.all_rows is not None
    assert found.all_rows.rows == 2
    assert found.all_rows.tpot_mape < 100


def test_one_group_cannot_be_left_out(catalog: HardwareCatalog, tmp_path: Path) -> None:
    single = tmp_path / "single.csv"
    single.write_text(HEADER + f"a,x,vllm,1,{MODEL},h100_sxm,fp8,agg,1024,128,8,1,1,1,1,,,,,,100,10\n")
    assert evaluate(single, catalog.accelerators).rows == 1
    with pytest.raises(InputError, match="nothing is left to fit to"):
        evaluate_held_out(single, catalog.accelerators)


def test_the_jackknife_never_looks_at_its_own_group() -> None:
    seconds = np.ones(200)
    problem = FitProblem(np.ones((200, 1)), [{}] * 200, [{}] * 200, seconds, seconds)
    predicted = np.exp(np.concatenate([np.linspace(0, 1, 100), np.linspace(0, 5, 100)]))
    quantiles = jackknife_quantile(predicted, problem, np.ones(200), ["a"] * 100 + ["b"] * 100)
    assert quantiles[0] == pytest.approx(4.0, abs=0.05)
    assert quantiles[-1] == pytest.approx(0.8, abs=0.01)
