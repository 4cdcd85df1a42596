"""Predictions for one deployment: step times for the simulator, and the mean-field steady state for sweeps."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.models import model_shape
from bessemer_planner.performance.calibration import SpeedCalibration, load_calibration
from bessemer_planner.performance.capacity import Capacity, capacity, held_tokens, kv_value_bytes
from bessemer_planner.performance.from_operators import (
    PROMPT_TOKEN_S,
    REQUEST_S,
    borrowed,
    operator_step,
    step_steady,
)
from bessemer_planner.performance.levels import level_values
from bessemer_planner.performance.nearest import NearestPoint, missing, nearest_points, newest_run
from bessemer_planner.performance.operators import missing_operators, operator_tilts
from bessemer_planner.performance.products import added_s, beyond_fit
from bessemer_planner.performance.recipes import first_terms, own_prompt, token_terms
from bessemer_planner.performance.step import DECODE_TERMS, TERMS, decode_terms
from bessemer_planner.performance.work import handed_over_s, prefill_terms
from bessemer_planner.simulator import BF16_KV, FP8_KV, with_variant
from bessemer_planner.types import Accelerator, Deployment, IntervalEstimate, KvPrecision, ModelShape, Replica, StepTime

Array = NDArray[np.float64]

_ARCHITECTURES = {
    "h100_sxm": "hopper",
    "h200_sxm": "hopper",
    "b200_sxm": "blackwell",
    "b300_sxm": "blackwell",
    "gb200": "blackwell",
    "gb300": "blackwell",
}
"""Architectures of the accelerators that have measured points."""
_COMPUTED = ("prefill", "prefill_reduce")
"""Terms that grow with the prompt tokens that are computed."""
_ATTENDED = ("prefill_attention",)
"""Terms that grow with the pairs of a computed token and one that it attends to."""
_CACHES = {KvPrecision.FP8: FP8_KV, KvPrecision.BF16: BF16_KV}
_COMPUTE, _PREFILL = TERMS.index("compute"), TERMS.index("prefill")
_HOST = [TERMS.index("step"), TERMS.index("requests")]
_TYPICAL_BATCH = 32.0
_LEAST_REQUEST_S = 0.002


class ReplicaPrediction(msgspec.Struct, frozen=True):
    """A replica as the simulator takes it, and how far to trust it."""

    replica: Replica
    spread: IntervalEstimate
    """Factor on the step time: value 1 and the bounds that should hold 80 % of measurements."""
    ttft_spread: IntervalEstimate
    """The same of the time to the first token."""
    nearest: tuple[NearestPoint, ...]
    extrapolated: str | None
    """What was never measured (GPU, model, engine, range); None inside the measured range."""
    engine_version: str
    """Engine, version and day of the run that the prediction stands for."""
    warnings: tuple[str, ...]
    deployment: Deployment
    shape: ModelShape
    accelerator: Accelerator
    capacity: Capacity
    levels: dict[str, str]
    """Values at the levels of the calibration."""
    measured: str = ""
    """Day (ISO date) of the run that the prediction stands for; blank: not known."""
    prefix_share: float = 0.0
    """Share of every prompt that the prefix cache holds; `replica` computes the rest alone (see `reusing`)."""


class Steady(msgspec.Struct, frozen=True):
    """Mean-field steady state of a closed loop with fixed lengths."""

    ttft_s: IntervalEstimate
    tpot_s: IntervalEstimate
    output_tokens_s: IntervalEstimate
    batch: float
    """Sequences in flight; less than the concurrency when KV or the batch limit queue the rest."""


class Performance:
    """Predicts step times from a calibration."""

    def __init__(self, calibration: SpeedCalibration) -> None:
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
        prefix_share: float = 0.0,
        kv_precision: KvPrecision = KvPrecision.AUTO,
        graph_batches: tuple[int, ...] = (),
    ) -> ReplicaPrediction:
        """Predict one replica around the lengths `isl`, `osl`. Raises `Unsatisfiable` when it does not fit.

        `prefix_share` of every prompt is in the prefix cache: it takes memory and is read, but not computed. A step of
        each attention rank is padded to the next of `graph_batches` sequences, when its graphs are captured for those.
        """
        room = capacity(deployment, shape, accelerator, max_batch=max_batch, chunk_tokens=chunk_tokens)
        points, warnings = self.calibration.notes.points, []
        found = newest_run(points, deployment, shape, _ARCHITECTURES, accelerator.architecture)
        if found is None:
            version, run = deployment.engine_version or "unknown version", None
            warnings.append(f"{deployment.engine.value} {version} was never measured: predicted from its siblings.")
        else:
            version, run = found
            deployment = msgspec.structs.replace(deployment, engine_version=version or None)
        levels = level_values(deployment, shape, accelerator, run)
        extrapolated = missing(points, deployment, shape, accelerator, isl, osl)
        if extrapolated:
            warnings.append(f"Extrapolated: {extrapolated}.")
        if lacking := missing_operators(deployment, shape, accelerator):
            told = f"of {shape.name} on {accelerator.name} in {deployment.precision.value}"
            warnings.append(f"No operator table has {', '.join(lacking)} {told}: their usual times are taken.")
        lane, lane_batch = msgspec.structs.replace(deployment, pp=1), -(-max_batch // deployment.pp)
        step = self._from_operators(lane, shape, accelerator, lane_batch)
        if step is None:
            computed = isl * (1.0 - prefix_share) / osl
            step = self._step(lane, shape, accelerator, levels, lane_batch, computed, graph_batches)
            request_s, prompt_token_s = self._request(lane, shape, accelerator, levels, step, isl)
        else:
            warnings.append(borrowed(accelerator))
            request_s, prompt_token_s = REQUEST_S, PROMPT_TOKEN_S
        if deployment.pp > 1:
            warnings.append("Pipeline stages were never measured: they are reckoned with equal shares and no gaps.")
            request_s += (1.0 - 1.0 / deployment.pp) * (step.prefill_token_s * isl + step.pair_s * isl**2 / 2.0)
            step = _staged(step, deployment.pp, max_batch, handed_over_s(shape, accelerator))
        terms = token_terms(lane, shape, accelerator, isl, osl, np.array([min(_TYPICAL_BATCH, float(lane_batch))]))
        _, doubt = self.calibration.tpot.seconds(levels, terms)
        factor = float(np.exp(self.calibration.notes.tpot_quantile * doubt[0]))
        late = self._first_spread(lane, shape, accelerator, levels, isl, osl, terms)
        replica = Replica(
            step=step,
            max_batch=max_batch,
            kv_tokens=room.kv_tokens,
            chunk_tokens=chunk_tokens * deployment.pp,
            request_s=request_s,
            prompt_token_s=prompt_token_s,
            kv_value_bytes=kv_value_bytes(deployment.precision),
        )
        if kv_precision in _CACHES:
            replica = with_variant(replica, _CACHES[kv_precision])
            wide = replica.kv_value_bytes / kv_value_bytes(deployment.precision)
            per_token = room.kv_bytes_per_token * wide
            room = msgspec.structs.replace(room, kv_tokens=replica.kv_tokens, kv_bytes_per_token=per_token)
        return ReplicaPrediction(
            replica=reusing(replica, prefix_share),
            spread=IntervalEstimate(1.0, 1.0 / factor, factor),
            ttft_spread=IntervalEstimate(1.0, 1.0 / late, late),
            nearest=nearest_points(points, deployment, shape, isl, osl, _TYPICAL_BATCH),
            extrapolated=extrapolated,
            engine_version=" ".join(filter(None, (deployment.engine.value, version, run.date if run else ""))),
            warnings=tuple(warnings),
            deployment=deployment,
            shape=shape,
            accelerator=accelerator,
            capacity=room,
            levels=levels,
            measured=run.date if run else "",
            prefix_share=prefix_share,
        )

    def steady(self, prediction: ReplicaPrediction, isl: float, osl: float, concurrency: float) -> Steady:
        """Mean-field steady state: `concurrency` clients in a closed loop, each `isl` tokens in and `osl` out."""
        stages = prediction.deployment.pp
        at = (msgspec.structs.replace(prediction.deployment, pp=1), prediction.shape, prediction.accelerator)
        fits = max(1.0, prediction.replica.kv_tokens / held_tokens(prediction.deployment.engine, isl, osl))
        batch = np.array([min(float(concurrency), float(prediction.replica.max_batch), fits)])
        lane, asked = np.maximum(1.0, batch / stages), np.array([float(concurrency)]) / stages
        tilts = operator_tilts(*at, float(lane[0]))
        kept = _kept(TERMS, prediction)
        each = token_terms(*at, isl, osl, lane) * kept
        scale = self.calibration.tpot.coefficients(prediction.levels, tilts)
        own = (own_prompt(*at, isl) * kept[len(DECODE_TERMS) :] * scale[len(DECODE_TERMS) :])[None, :]
        first = first_terms(own, each * scale, np.array([isl]), np.array([osl]), lane, asked)
        tpot, tpot_doubt = self.calibration.tpot.seconds(prediction.levels, each, tilts)
        ttft, ttft_doubt = self.calibration.ttft.seconds(prediction.levels, first, tilts)
        if self._from_operators(*at, 1) is not None:
            waiting = float(concurrency) - float(batch[0])
            first_s, each_s = step_steady(prediction.replica.step, isl, osl, float(batch[0]), waiting)
            ttft, tpot = np.array([first_s]), np.array([each_s])
        else:
            tokens = lane * (1.0 + isl * kept[TERMS.index("prefill")] / osl)
            tpot = tpot + beyond_fit(each * scale, added_s(*at, tokens))
        notes = self.calibration.notes
        rate = concurrency * osl / (ttft[0] + tpot[0] * max(osl - 1.0, 0.0))
        return Steady(
            ttft_s=_interval(ttft[0], notes.ttft_quantile * ttft_doubt[0]),
            tpot_s=_interval(tpot[0], notes.tpot_quantile * tpot_doubt[0]),
            output_tokens_s=_interval(rate, notes.tpot_quantile * tpot_doubt[0]),
            batch=float(batch[0]),
        )

    def _from_operators(
        self, deployment: Deployment, shape: ModelShape, accelerator: Accelerator, max_batch: int
    ) -> StepTime | None:
        """Step times from measured operators, on an architecture on which no engine was ever measured.

        An accelerator of a fitted architecture (GB300 beside B200, GB200 and B300) is nearer to its siblings.
        """
        return (
            None if fitted(self.calibration, accelerator) else operator_step(deployment, shape, accelerator, max_batch)
        )

    def _first_spread(
        self,
        deployment: Deployment,
        shape: ModelShape,
        accelerator: Accelerator,
        levels: dict[str, str],
        isl: float,
        osl: float,
        terms: Array,
    ) -> float:
        """Return the factor that should hold 80 % of times to the first token, at a typical batch."""
        batch = np.array([_TYPICAL_BATCH])
        scale = self.calibration.tpot.coefficients(levels)
        own = (own_prompt(deployment, shape, accelerator, isl) * scale[len(DECODE_TERMS) :])[None, :]
        first = first_terms(own, terms * scale, np.array([isl]), np.array([osl]), batch, batch)
        _, doubt = self.calibration.ttft.seconds(levels, first)
        return float(np.exp(self.calibration.notes.ttft_quantile * doubt[0]))

    def _step(
        self,
        deployment: Deployment,
        shape: ModelShape,
        accelerator: Accelerator,
        levels: dict[str, str],
        max_batch: int,
        prompt_tokens: float,
        graph_batches: tuple[int, ...],
    ) -> StepTime:
        """Fold the fitted coefficients into the simulator's step time; tilts follow the batch.

        A step decodes beside `prompt_tokens` of new prompts per sequence, the mean of a steady state: what measured
        products take beyond the fitted ones (`products`) is spread over all steps of a batch.
        """
        at = (deployment, shape, accelerator)
        batch = np.arange(max_batch + 1, dtype=np.float64)
        grid = np.unique(np.round(np.geomspace(1, max_batch, 9)))
        logs = np.array([np.log(self.calibration.tpot.coefficients(levels, operator_tilts(*at, b))) for b in grid])
        scale = np.exp(np.stack([np.interp(batch, grid, column) for column in logs.T], axis=1))
        count, one, far = len(DECODE_TERMS), np.ones(1), 65536.0
        kv_scale, prefill_scale = scale[min(32, max_batch), :count], scale[min(32, max_batch), count:]
        slope = decode_terms(*at, one, np.array([2.0 * far])) - decode_terms(*at, one, np.array([far]))
        per_token = float(slope[0] @ kv_scale) / far
        growing = decode_terms(*at, one, np.array([far]))[0] - decode_terms(*at, one, np.zeros(1))[0]
        window = max(0.0, float(growing @ kv_scale) - per_token * far)
        fixed = (decode_terms(*at, batch, np.zeros_like(batch)) * scale[:, :count]).sum(axis=1) + window * batch
        each = prefill_terms(*at, one, np.zeros(1))[0] * prefill_scale
        pair = prefill_terms(*at, np.zeros(1), one)[0] @ prefill_scale
        arithmetic = np.zeros((max_batch + 1, len(TERMS)))
        arithmetic[:, _COMPUTE] = (decode_terms(*at, batch, np.zeros_like(batch)) * scale[:, :count])[:, _COMPUTE]
        arithmetic[:, _PREFILL] = each[0] * batch * prompt_tokens
        if graph_batches:  # the device computes padding as well, the host does not
            host = (decode_terms(*at, batch, np.zeros_like(batch)) * scale[:, :count])[:, _HOST].sum(axis=1)
            fixed = (fixed - host)[_padded(max_batch, graph_batches, deployment.dp)] + host
        fixed = fixed + beyond_fit(arithmetic, added_s(*at, batch * (1.0 + prompt_tokens)))
        return StepTime(
            decode_s=np.maximum.accumulate(fixed),
            kv_token_s=per_token,
            prefill_token_s=float(each.sum()),
            pair_s=float(pair),
        )

    def _request(
        self,
        deployment: Deployment,
        shape: ModelShape,
        accelerator: Accelerator,
        levels: dict[str, str],
        step: StepTime,
        isl: float,
    ) -> tuple[float, float]:
        """Return API-server seconds per request and per prompt token: what of one lone client's time to first token
        the engine's own step does not explain, at `isl` tokens and at a quarter of them."""
        at = (deployment, shape, accelerator)
        lone, lengths = np.ones(1), np.array([isl / 4.0, isl])
        rest = []
        for length in lengths:
            scale = self.calibration.tpot.coefficients(levels, operator_tilts(*at, 1.0))
            prompt = (own_prompt(*at, float(length)) * scale[len(DECODE_TERMS) :])[None, :]
            token = token_terms(*at, float(length), 1024.0, lone) * scale
            first = first_terms(prompt, token, np.array([length]), np.array([1024.0]), lone, lone)
            ttft, _ = self.calibration.ttft.seconds(levels, first)
            own = step.prefill_token_s * length + step.pair_s * length**2 / 2.0 + step.decode_s[0]
            rest.append(max(_LEAST_REQUEST_S, float(ttft[0]) - own))
        per_token = max(0.0, (rest[1] - rest[0]) / float(lengths[1] - lengths[0]))
        return max(_LEAST_REQUEST_S, rest[1] - per_token * isl), per_token


def fitted(calibration: SpeedCalibration, accelerator: Accelerator) -> bool:
    """Whether an engine was measured on the accelerator's architecture."""
    return accelerator.architecture in {_ARCHITECTURES.get(name) for name in calibration.notes.points.accelerator}


def operator_steady(
    calibration: SpeedCalibration,
    deployment: Deployment,
    accelerator: Accelerator,
    isl: float,
    osl: float,
    batch: float,
    waiting: float,
) -> tuple[float, float] | None:
    """Return seconds to the first token and per token of a closed loop, where plans go by measured operators."""
    if fitted(calibration, accelerator):
        return None
    step = operator_step(deployment, model_shape(deployment.model), accelerator, max(1, round(batch)))
    return None if step is None else step_steady(step, isl, osl, batch, waiting)


def reusing(replica: Replica, share: float) -> Replica:
    """Return a replica whose prefix cache holds the first `share` of every prompt, for prompts given in full.

    Memory and the context that decoding reads stay those of whole prompts. Of a prompt of L tokens n = (1 - share) L
    are computed, attending to n (L - n + n / 2) = (1 - share^2) L^2 / 2 pairs; a chunk covers as many more tokens.
    """
    step = replica.step
    tokens, pairs = 1.0 - share, 1.0 - share**2
    return msgspec.structs.replace(
        replica,
        step=msgspec.structs.replace(step, prefill_token_s=step.prefill_token_s * tokens, pair_s=step.pair_s * pairs),
        chunk_tokens=int(replica.chunk_tokens / tokens),
    )


def _staged(step: StepTime, stages: int, max_batch: int, handed_over: float) -> StepTime:
    """Return the step of a pipeline from that of one accelerator group that held all layers (a lane).

    The batch runs in as many micro-batches as there are stages, each through every stage in turn. A full pipeline
    advances all of them by a token in the time that a lane needs for one of them: the stages work at the same time,
    each on its share of the layers. Between stages every token's activations are handed over.
    """
    lanes = -(-np.arange(max_batch + 1) // stages)
    return StepTime(
        decode_s=step.decode_s[lanes] + (stages - 1) * handed_over * lanes,
        kv_token_s=step.kv_token_s / stages,
        prefill_token_s=(step.prefill_token_s + (stages - 1) * handed_over) / stages,
        prefill_step_s=step.prefill_step_s,
        pair_s=step.pair_s / stages,
    )


def _padded(max_batch: int, sizes: tuple[int, ...], ranks: int) -> NDArray[np.int64]:
    """Return for each batch [max_batch + 1] the one that is computed, when every rank pads to the next size."""
    batch = np.arange(max_batch + 1)
    local = -(-batch // ranks)
    known = np.sort(np.array([0, *sizes]))
    upper = known[np.minimum(np.searchsorted(known, local), len(known) - 1)]
    padded: NDArray[np.int64] = np.minimum(np.maximum(upper * ranks, batch), max_batch)
    return padded


def _kept(names: tuple[str, ...], prediction: ReplicaPrediction) -> Array:
    """Return the factor on each term for a cached share of every prompt, and for a cache of other bytes than usual."""
    share, usual = prediction.prefix_share, kv_value_bytes(prediction.deployment.precision)
    factors = dict.fromkeys(_COMPUTED, 1.0 - share) | dict.fromkeys(_ATTENDED, 1.0 - share**2)
    factors["kv"] = prediction.replica.kv_value_bytes / usual
    return np.array([factors.get(name, 1.0) for name in names])


def _interval(value: float, log_half: float) -> IntervalEstimate:
    factor = float(np.exp(log_half))
    return IntervalEstimate(float(value), float(value) / factor, float(value) * factor)
