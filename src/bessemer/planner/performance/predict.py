"""Predictions for one deployment: step times for the simulator, and the mean-field steady state for sweeps."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer.planner.performance.calibration import Calibration, load_calibration
from bessemer.planner.performance.capacity import Capacity, capacity
from bessemer.planner.performance.levels import level_values
from bessemer.planner.performance.work import DECODE_TERMS, decode_terms, prefill_terms
from bessemer.planner.types import Accelerator, Deployment, Interval, ModelShape, Replica, StepTime

Array = NDArray[np.float64]

_REQUEST_S = 0.0156
_PROMPT_TOKEN_S = 46e-6
"""API-server time per request and per prompt token, the starting point of BLIS's fit for vLLM on H100
(inference-sim/BLIS, docs/guide/latency-models.md)."""


class NearestPoint(msgspec.Struct, frozen=True):
    """A measured point close to what was asked."""

    id: str
    model: str
    accelerator: str
    engine: str
    engine_version: str
    precision: str
    tp: int
    dp: int
    ep: int
    isl: int
    osl: int
    concurrency: int
    ttft_s: float
    tpot_s: float
    distance: float
    """In natural-log units of load and size, plus one for each of engine, GPU and model that differs."""


class Prediction(msgspec.Struct, frozen=True):
    """A replica as the simulator takes it, and how far to trust it."""

    replica: Replica
    spread: Interval
    """Factor on the step time: value 1 and the bounds that should hold 80 % of measurements."""
    nearest: tuple[NearestPoint, ...]
    extrapolated: str | None
    """What was never measured (GPU, model, engine, range); None inside the measured range."""
    engine_version: str
    warnings: tuple[str, ...]
    deployment: Deployment
    shape: ModelShape
    accelerator: Accelerator
    capacity: Capacity


class Steady(msgspec.Struct, frozen=True):
    """Mean-field steady state of a closed loop with fixed lengths."""

    ttft_s: Interval
    tpot_s: Interval
    output_tokens_s: Interval
    batch: float
    """Sequences in flight; less than the concurrency when KV or the batch limit queue the rest."""


class Performance:
    """Predicts step times from the shipped calibration."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration

    @classmethod
    def load(cls) -> "Performance":
        """Return the predictor with the shipped calibration."""
        return cls(load_calibration())

    def replica(
        self,
        deployment: Deployment,
        shape: ModelShape,
        accelerator: Accelerator,
        *,
        max_batch: int = 256,
        chunk_tokens: int = 8192,
        isl: float = 1024,
        osl: float = 1024,
    ) -> Prediction:
        """Predict one replica around the lengths `isl`, `osl`. Raises `Infeasible` when it does not fit."""
        room = capacity(deployment, shape, accelerator, max_batch=max_batch, chunk_tokens=chunk_tokens)
        step = self._step(deployment, shape, accelerator, max_batch)
        replica = Replica(
            step=step,
            max_batch=max_batch,
            kv_tokens=room.kv_tokens,
            chunk_tokens=chunk_tokens,
            request_s=_REQUEST_S,
            prompt_token_s=_PROMPT_TOKEN_S,
        )
        return Prediction(
            replica=replica,
            spread=Interval(1.0, 0.8, 1.25),
            nearest=(),
            extrapolated=None,
            engine_version=deployment.engine_version or "",
            warnings=(),
            deployment=deployment,
            shape=shape,
            accelerator=accelerator,
            capacity=room,
        )

    def steady(self, prediction: Prediction, isl: float, osl: float, concurrency: float) -> Steady:
        """Mean-field steady state: `concurrency` clients in a closed loop, each `isl` tokens in and `osl` out."""
        replica, step = prediction.replica, prediction.replica.step
        fits = max(1.0, replica.kv_tokens / (isl + osl / 2.0))
        batch = min(concurrency, float(replica.max_batch), fits)
        own = step.prefill_token_s * isl + step.pair_s * isl**2 / 2.0 + step.prefill_step_s
        decode = float(np.interp(batch, np.arange(len(step.decode_s)), step.decode_s))
        decode += step.kv_token_s * batch * (isl + osl / 2.0)
        tpot = decode + batch * own / osl
        wait = max(0.0, concurrency - batch) / batch * tpot * osl
        ttft = replica.request_s + replica.prompt_token_s * isl + own + tpot + wait
        rate = batch / (tpot + own / osl)
        low, high = prediction.spread.low, prediction.spread.high
        return Steady(
            ttft_s=Interval(ttft, 0.6 * ttft, 1.6 * ttft),
            tpot_s=Interval(tpot, low * tpot, high * tpot),
            output_tokens_s=Interval(rate, rate / high, rate / low),
            batch=batch,
        )

    def _step(self, deployment: Deployment, shape: ModelShape, accelerator: Accelerator, max_batch: int) -> StepTime:
        """Fold the fitted coefficients into the simulator's step time."""
        scale = self.calibration.tpot.coefficients(level_values(deployment, shape, accelerator))
        decode, prefill = scale[: len(DECODE_TERMS)], scale[len(DECODE_TERMS) :]
        batch = np.arange(max_batch + 1, dtype=np.float64)
        none = np.zeros_like(batch)
        fixed = decode_terms(deployment, shape, accelerator, batch, none) @ decode
        one, far = np.ones(1), np.full(1, 65536.0)
        slope = decode_terms(deployment, shape, accelerator, one, 2.0 * far) - decode_terms(
            deployment, shape, accelerator, one, far
        )
        near = decode_terms(deployment, shape, accelerator, batch, np.full_like(batch, 65536.0)) @ decode
        per_token = float(slope[0] @ decode) / 65536.0
        windows = near - fixed - per_token * 65536.0 * batch
        token = prefill_terms(deployment, shape, accelerator, one, np.zeros(1))[0] @ prefill
        pair = prefill_terms(deployment, shape, accelerator, np.zeros(1), one)[0] @ prefill
        return StepTime(
            decode_s=np.maximum.accumulate(fixed + np.maximum(windows, 0.0)),
            kv_token_s=per_token,
            prefill_token_s=float(token),
            pair_s=float(pair),
        )
