"""The most that one accelerator serves within latency limits, by the planner's own prediction."""

import math

import msgspec

from bessemer_planner.catalog import HardwareCatalog
from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance import Performance, ReplicaPrediction
from bessemer_planner.types import Deployment, IntervalEstimate, Precision, ServingEngine

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


class UseCase(msgspec.Struct, frozen=True):
    """Lengths in tokens and limits in seconds."""

    isl: float
    osl: float
    ttft_s: float
    tpot_s: float


CHAT = UseCase(isl=294, osl=293, ttft_s=2.0, tpot_s=0.2)
"""MLPerf's Llama-2-70B Server: OpenOrca questions, 2 s to the first token, 200 ms for each further one."""
SUMMARIES = UseCase(isl=778, osl=128, ttft_s=2.0, tpot_s=0.1)
"""MLPerf's Llama-3.1-8B Server: news articles to summarise, 2 s to the first token, 100 ms for each further one."""


class Serving(msgspec.Struct, frozen=True):
    """The best deployment of a model on an accelerator."""

    model: str
    accelerator: str
    precision: Precision
    tp: int
    concurrency: int
    replica_tokens_s: IntervalEstimate
    """Output tokens a second of one replica."""
    engine_version: str

    @property
    def tokens_s(self) -> IntervalEstimate:
        """Output tokens a second per accelerator."""
        one = self.replica_tokens_s
        return IntervalEstimate(one.value / self.tp, one.low / self.tp, one.high / self.tp)


def error_of_ratio(first: IntervalEstimate, second: IntervalEstimate) -> float:
    """Return the factor that bounds the ratio of two predictions whose errors are independent."""
    return math.exp(math.hypot(*(math.log(one.high / one.value) for one in (first, second))))


def best_serving(
    catalog: HardwareCatalog,
    performance: Performance,
    model: str,
    accelerator: str,
    precision: Precision,
    limits: UseCase,
    *,
    engine: ServingEngine = ServingEngine.VLLM,
    most: int = 8,
) -> Serving:
    """Return the deployment with the most output tokens per accelerator within the limits, fewest accelerators first.

    The limits bound means of a closed loop, not the 99th percentile: an upper bound, as MLPerf's tuned results are.

    Raises:
        Unsatisfiable: nothing fits, or nothing keeps the limits.
    """
    shape, hardware = model_shape(model), catalog.accelerator(accelerator)
    best: Serving | None = None
    refused = ""
    for tp in (size for size in (1, 2, 4, 8) if size <= most):
        deployment = Deployment(model, hardware.name, engine, None, precision, tp=tp)
        try:
            prediction = performance.replica(
                deployment, shape, hardware, max_batch=max(CONCURRENCIES), isl=limits.isl, osl=limits.osl
            )
        except Unsatisfiable as error:
            refused = error.message
            continue
        found = _busiest(performance, prediction, limits)
        if found is not None and (best is None or found.tokens_s.value > best.tokens_s.value):
            best = found
        elif best is not None:
            break  # splitting further only adds communication
    if best is None:
        raise Unsatisfiable(refused or f"{model} on {hardware.name} keeps no limit of {limits}")
    return best


def _busiest(performance: Performance, prediction: ReplicaPrediction, limits: UseCase) -> Serving | None:
    """Return the highest concurrency that keeps the limits, by bisection: both times rise with it."""
    found: tuple[int, IntervalEstimate] | None = None
    low, high = 0, len(CONCURRENCIES)
    while low < high:
        middle = (low + high) // 2
        steady = performance.steady(prediction, limits.isl, limits.osl, CONCURRENCIES[middle])
        if steady.tpot_s.value <= limits.tpot_s and steady.ttft_s.value <= limits.ttft_s:
            found, low = (CONCURRENCIES[middle], steady.output_tokens_s), middle + 1
        else:
            high = middle
    if found is None:
        return None
    of = prediction.deployment
    return Serving(of.model, of.accelerator, of.precision, of.tp, *found, prediction.engine_version)
