"""The evaluation of a file: scores by hand on few rows, and the shipped calibration on the measured file."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from planner.tests.performance.test_measured import HEADER

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import InputError
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance, evaluate, evaluate_held_out
from bessemer_planner.performance.calibrate import group_quantile
from bessemer_planner.performance.evaluate import jackknife_quantile
from bessemer_planner.types import Deployment, Precision, ServingEngine

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


def test_the_jackknife_never_looks_at_what_is_left_out() -> None:
    ratio = np.concatenate([np.linspace(0, 1, 100), np.linspace(0, 5, 100), np.linspace(0, 9, 100)])
    groups = ["a"] * 100 + ["b"] * 100 + ["c"] * 100
    quantiles = jackknife_quantile(ratio, groups, groups)
    for start, others in ((0, [1, 2]), (100, [0, 2]), (200, [0, 1])):
        assert quantiles[start] == max(ratio[100 * other : 100 * other + 100].max() for other in others)
    pooled = jackknife_quantile(ratio, ["x"] * 300, groups)
    assert set(pooled) == {group_quantile(ratio, groups)}


def test_every_group_counts_alike_and_one_more_is_to_be_expected() -> None:
    """Nine groups of one row each and one of ninety: eight of eleven parts lie at or below 7, nine at or below 8."""
    ratio = np.array([*range(9), *[100.0] * 90], dtype=np.float64)
    groups = [*range(9), *["large"] * 90]
    assert group_quantile(ratio, groups, 8 / 11) == 7
    assert group_quantile(ratio, groups, 0.8) == 8
    assert group_quantile(ratio[:2], [0, 1], 0.8) == 1, "too few groups: the largest"


def test_plans_and_evaluations_predict_alike(catalog: HardwareCatalog, tmp_path: Path) -> None:
    """On accelerators with engines measured (H100) and with operators alone (RTX PRO 6000, L40S, A100)."""
    names = ("h100_sxm", "rtx_pro_6000_server", "l40s", "a100")
    one = tmp_path / "one.csv"
    one.write_text(
        HEADER
        + "".join(
            f"{n},{n},vllm,,{MODEL},{n},bf16,agg,1024,128,8,1,1,1,1,,,,,,{100 + i},{10 + i}\n"
            for i, n in enumerate(names)
        )
    )
    found = {row.id: row for row in evaluate(one, catalog.accelerators).results}
    performance, shape = Performance.load(), model_shape(MODEL)
    for name in names[1:]:
        deployment = Deployment(MODEL, name, ServingEngine.VLLM, None, Precision.BF16)
        prediction = performance.replica(deployment, shape, catalog.accelerator(name), max_batch=8)
        steady = performance.steady(prediction, 1024, 128, 8)
        assert found[name].predicted_tpot_ms[0] == pytest.approx(1e3 * steady.tpot_s.value, rel=0.01)
        assert found[name].predicted_ttft_ms[0] == pytest.approx(1e3 * steady.ttft_s.value, rel=0.01)


def test_a_front_end_does_not_know_the_format_of_the_weights(catalog: HardwareCatalog) -> None:
    performance, shape, card = Performance.load(), model_shape(MODEL), catalog.accelerator("h100_sxm")
    seconds = {}
    for precision in (Precision.BF16, Precision.FP8):
        deployment = Deployment(MODEL, card.name, ServingEngine.VLLM, None, precision)
        seconds[precision] = performance.replica(deployment, shape, card, isl=512).replica.request_s
    assert seconds[Precision.BF16] == pytest.approx(seconds[Precision.FP8], abs=0.01)
    assert max(seconds.values()) < 0.06
