"""How well predictions hold on the measured rows: held-out configurations, whole GPUs left out, training scaling."""

from pathlib import Path
from typing import Any

from bessemer.planner.catalog import load_catalog
from bessemer.planner.performance.evaluate import Evaluation, evaluate, evaluate_held_out
from bessemer.planner.performance.training import scaling_errors

ACCELERATORS = ("h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200", "gb300")


def measure(folder: Path) -> dict[str, Any]:
    """Return errors and coverage in percent; None without the measurements."""
    names = ("tpot_mape_heldout_config", "tpot_mape_leave_gpu_out", "ttft_median_error", "interval_coverage_80")
    if not (folder / "measured_ttft_tpot.csv").exists():
        return dict.fromkeys((*names, "throughput_rank_correlation", "training_scaling_error_points"))
    catalog = load_catalog()
    accelerators = {name: catalog.accelerator(name) for name in ACCELERATORS}
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
        "held_out": summary(configuration),
        "gpu_left_out": summary(gpu),
        "shipped_calibration": summary(shipped),
    }


def summary(evaluation: Evaluation) -> dict[str, Any]:
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
