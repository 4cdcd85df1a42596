"""How well predictions hold on the measured rows: held-out configurations, whole GPUs left out, training scaling."""

import csv
from pathlib import Path
from typing import Any

import msgspec

from bessemer_planner.catalog import load_catalog
from bessemer_planner.performance.evaluate import (
    PredictionErrors,
    evaluate,
    evaluate_held_out,
    guess,
    rank,
    score,
)
from bessemer_planner.performance.measured import read_measured
from bessemer_planner.performance.screen import screen
from bessemer_planner.types import Accelerator
from lab.planner.calibrate import calibrated
from lab.planner.mlperf import ServerCheck, check_server_rows
from lab.planner.outer_split import outer_split, split
from lab.planner.scaling import scaling_errors


def measure(folder: Path) -> dict[str, Any]:
    """Return errors and coverage in percent; None without the measurements."""
    names = ("tpot_mape_heldout_config", "tpot_mape_leave_gpu_out", "ttft_median_error", "interval_coverage_80")
    if not (folder / "measured_ttft_tpot.csv").exists():
        return dict.fromkeys((*names, "throughput_rank_correlation", "training_scaling_error_points"))
    catalog = load_catalog()
    accelerators = catalog.accelerators
    rows = folder / "measured_ttft_tpot.csv"
    configuration = evaluate_held_out(rows, accelerators, "group")
    gpu = evaluate_held_out(rows, accelerators, "gpu")
    shipped = evaluate(rows, accelerators)
    training = scaling_errors(folder / "mlperf_training.csv")
    return {
        "tpot_mape_heldout_config": configuration.tpot_mape,
        "tpot_mape_leave_gpu_out": {name: score.tpot_mape for name, score in gpu.by_gpu.items()},
        "ttft_median_error": configuration.ttft_median_error,
        "interval_coverage_80": configuration.interval_coverage_80,
        "throughput_rank_correlation": gpu.throughput_rank_correlation,
        "training_scaling_error_points": round(max(abs(row.error_points) for row in training), 1),
        "sealed": sealed(rows, accelerators),
        "held_out": summary(configuration),
        "gpu_left_out": summary(gpu),
        "shipped_calibration": summary(shipped),
        "training_scaling": [msgspec.to_builtins(row) for row in training],
        "mlperf_server": server(
            check_server_rows(folder / "measured_throughput.csv", accelerators, catalog.aliases),
        ),
    }


def sealed(path: Path, accelerators: dict[str, Accelerator]) -> dict[str, Any]:
    """Score the groups of the outer split by a calibration of the other rows alone: what an unseen group may expect."""
    with path.open(newline="") as stream:
        kept = {row["id"] for row in split(list(csv.DictReader(stream)))[0]}
    rows = [row for row in screen(read_measured(path)[0], accelerators)[0] if row.mode == "agg"]
    apart = [row for row in rows if row.id not in kept]
    found = guess(apart, accelerators, calibrated([row for row in rows if row.id in kept], accelerators))
    total, known = score(apart, found), outer_split()
    return {
        "tpot_mape": total.tpot_mape,
        "ttft_median_error": total.ttft_median,
        "tpot_coverage_80": total.coverage_80_tpot,
        "ttft_coverage_80": total.coverage_80_ttft,
        "rank": rank(apart, found),
        "rows": total.rows,
        "groups": list(known.groups),
        "sha256": known.sha256,
    }


def server(check: ServerCheck) -> dict[str, Any]:
    """MLPerf Server submissions: does the predicted machine hold the submitted rate within the p99 limits, and are the
    accelerators in the submitted order, pooled over models and model by model?"""
    return {
        "rows": len(check.rows),
        "within_p99_limits": check.within,
        "rank_correlation_8_accelerators": check.rank_correlation,
        "pairs_in_order": [
            sum(order.in_order for order in check.order.values()),
            sum(order.pairs for order in check.order.values()),
        ],
        "order_by_model": {name: msgspec.to_builtins(order) for name, order in check.order.items()},
        "predicted_over_submitted": {
            f"{row.model} {row.precision} on {row.accelerator}": round(
                row.predicted_tokens_s / row.measured_tokens_s, 2
            )
            for row in check.rows
        },
        "outside": [f"{row.model} {row.precision} on {row.accelerator}" for row in check.rows if not row.within],
        "refused": [f"{what}: {why}" for what, why in check.refused],
    }


def summary(evaluation: PredictionErrors) -> dict[str, Any]:
    """An evaluation without its rows."""
    return {
        "rows": evaluation.rows,
        "tpot_mape": evaluation.tpot_mape,
        "tpot_median": evaluation.tpot_median,
        "ttft_median_error": evaluation.ttft_median_error,
        "interval_coverage_80": evaluation.interval_coverage_80,
        "throughput_rank_correlation": evaluation.throughput_rank_correlation,
        "tpot_mape_by_gpu": {name: score.tpot_mape for name, score in evaluation.by_gpu.items()},
        "tpot_mape_by_framework": {name: score.tpot_mape for name, score in evaluation.by_framework.items()},
        "bad_rows": len(evaluation.bad_rows),
    }
