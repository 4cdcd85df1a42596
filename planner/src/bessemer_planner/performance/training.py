"""What training costs in time: the arithmetic that an accelerator reaches, and what failures and checkpoints take.

Anchors are MLPerf Training v5.0 and v5.1 (mlcommons/training_results_v5.0 and v5.1).
"""

import math

import msgspec

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.types import Accelerator

_UTILISATION = {"ampere": 0.45, "ada": 0.35, "hopper": 0.41, "blackwell": 0.365, "blackwell_rtx": 0.35}
"""Share of the eight-bit dense peak (16-bit where there is none) that `6 N D` reaches on 512 accelerators: Llama-3.1
405B, H100 811 of 1,979 TFLOP/s, GB200 1,805 of 5,000; the others assume their nearest architecture."""
_USUAL_UTILISATION = 0.35
FAILURES_PER_ACCELERATOR_HOUR = 1.97e-5
"""419 unexpected interruptions of 16,384 accelerators in 54 days (The Llama 3 Herd of Models, arXiv 2407.21783)."""


class Goodput(msgspec.Struct, frozen=True):
    """Share of time that moves training forward, and the checkpoint interval it was reckoned with."""

    share: float
    checkpoint_s: float
    failures_per_day: float


def young_daly_s(save_s: float, accelerators: int, failures_per_hour: float = FAILURES_PER_ACCELERATOR_HOUR) -> float:
    """Return the checkpoint interval that loses least: `sqrt(2 save / (N lambda))` (Young 1974, Daly 2006)."""
    return math.sqrt(2.0 * save_s / (accelerators * failures_per_hour / 3600.0))


def goodput(
    accelerators: int,
    *,
    save_s: float = 30.0,
    restart_s: float = 600.0,
    checkpoint_s: float | None = None,
    failures_per_hour: float = FAILURES_PER_ACCELERATOR_HOUR,
) -> Goodput:
    """Return the share of time not lost: `(1 - N lambda (restart + interval / 2)) (1 - save / interval)`.

    Raises `Unsatisfiable` when failures come faster than restarts end.
    """
    interval = checkpoint_s or max(young_daly_s(save_s, accelerators, failures_per_hour), save_s)
    rate = accelerators * failures_per_hour / 3600.0
    share = (1.0 - rate * (restart_s + interval / 2.0)) * (1.0 - save_s / interval)
    if share <= 0.0 or rate * (restart_s + interval / 2.0) >= 1.0:
        most = int(0.5 / (failures_per_hour / 3600.0 * (restart_s + interval / 2.0)))
        raise Unsatisfiable(
            f"accelerators: {accelerators} fail every {1.0 / rate:.0f} s, faster than a restart of {restart_s:.0f} s "
            f"and half an interval of {interval:.0f} s; nearest: {most} accelerators, or checkpoints more often.",
            param="accelerators",
        )
    return Goodput(share, interval, rate * 86400.0)


def training_flops(accelerator: Accelerator) -> float:
    """Return the flop/s of `6 N D` that one accelerator reaches in full training: the measured share of its peak."""
    return _peak_flops(accelerator) * _UTILISATION.get(accelerator.architecture, _USUAL_UTILISATION)


def _peak_flops(accelerator: Accelerator) -> float:
    return (accelerator.fp8_tflops or accelerator.bf16_tflops) * 1e12
