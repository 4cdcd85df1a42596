"""The simulator's nouns: the requests that arrive, the cluster that serves them, and what happened to each.

Decides units (seconds, tokens) and meanings; it knows neither how time is kept (`lowering`) nor how events are found.
"""

from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from bessemer_planner.types import Replica

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class PrefixBlocks(msgspec.Struct, frozen=True):
    """Hashes of the prompts' full blocks. A hash stands for its block and all blocks before it, as in vLLM."""

    offsets: Ints
    """[N + 1]: request i has hashes[offsets[i] : offsets[i + 1]]."""
    hashes: Ints
    tokens: int = 16
    """Tokens of one block: a multiple of the engine's block."""


class Requests(msgspec.Struct, frozen=True):
    """A workload in order of arrival; arrays have one element per request."""

    arrival_s: Floats
    """Not decreasing."""
    prompt_tokens: Ints
    output_tokens: Ints
    kind: Ints | None = None
    """Class of the request, an index into `Cluster.entry`; blank: 0."""
    deadline_s: Floats | None = None
    """Time by which a batch request must be finished; infinite: interactive."""
    prefix: PrefixBlocks | None = None
    concurrency: int | None = None
    """A closed loop: at most this many requests are under way, the next is sent when one has finished."""

    def __len__(self) -> int:
        return len(self.arrival_s)


class Router(StrEnum):
    """How a request finds its replica among the active ones."""

    ROUND_ROBIN = "round_robin"
    LEAST_LOADED = "least_loaded"
    """Fewest requests waiting and running; the first of equals."""
    POWER_OF_TWO = "power_of_two"
    """The less loaded of two drawn at random."""
    PREFIX_AWARE = "prefix_aware"
    """The replica that last got the longest matching prefix, else the least loaded: the rule of SGLang's router."""


class Autoscaler(msgspec.Struct, frozen=True):
    """Keeps requests per replica near a target, as Kubernetes' HorizontalPodAutoscaler does (its defaults).

    Up at once; down only when the load, spread over fewer replicas, has stayed below the target for the whole
    stabilisation window, and then to the largest number that the window asked for.
    """

    target_load: float
    """Requests, waiting and running, per replica."""
    maximum: int
    minimum: int = 1
    interval_s: float = 15.0
    scrape_delay_s: float = 15.0
    """Age of the metric that a decision sees; rounded up to whole intervals."""
    cold_start_s: float = 180.0
    """From the decision until a replica takes requests."""
    tolerance: float = 0.1
    stabilisation_s: float = 300.0


class Failures(msgspec.Struct, frozen=True):
    """Replicas fail with exponentially distributed gaps; their requests start again elsewhere."""

    mean_between_s: float
    """Per replica."""
    repair_s: float


class Handoff(msgspec.Struct, frozen=True):
    """Disaggregation: the pool computes prompts, another one the rest; the prompt's KV travels between them."""

    pool: int
    latency_s: float
    token_s: float
    """Seconds per prompt token: KV bytes per token over bandwidth."""


class Escalation(msgspec.Struct, frozen=True):
    """A share of the answers is not good enough and the request goes on to another pool, which answers it anew."""

    pool: int
    share: float
    decision_s: float = 0.0
    """Time to decide, after the answer is complete."""


class Pool(msgspec.Struct, frozen=True):
    """Equal replicas behind one router."""

    replica: Replica
    replicas: int
    """At the start; with an autoscaler within its bounds."""
    router: Router = Router.LEAST_LOADED
    prefix_cache: bool = False
    autoscaler: Autoscaler | None = None
    failures: Failures | None = None
    handoff: Handoff | None = None
    cascade: Escalation | None = None
    batch_fill: float = 0.5
    """Batch requests fill a replica up to this share of its batch size."""
    batch_slack_s: float = 600.0
    """A batch request that is this close to its deadline is treated like an interactive one."""


class Cluster(msgspec.Struct, frozen=True):
    """Pools, and the pool at which each class of requests enters."""

    pools: tuple[Pool, ...]
    entry: tuple[int, ...] = (0,)


class ScalePoint(msgspec.Struct, frozen=True):
    """The autoscalers' view over time; arrays have one element per decision."""

    time_s: Floats
    pool: Ints
    active: Ints
    starting: Ints
    load: Ints


class SimulationResult(msgspec.Struct, frozen=True):
    """What happened. Arrays per request keep the order of the workload; times that did not happen are NaN."""

    sent_s: Floats
    """When the client sent it: its arrival, or later in a closed loop."""
    ttft_s: Floats
    """From sending to the first token of the model whose answer counts."""
    finish_s: Floats
    """Absolute time of the last token."""
    tpot_s: Floats
    """Mean time between tokens after the first; NaN for one token."""
    replica: Ints
    """The replica that finished it, numbered through all pools; -1: none."""
    preempted: Ints
    reused_tokens: Ints
    """Tokens that came from the prefix cache instead of being computed."""
    retries: Ints
    """Starts anew after a replica failed."""
    escalated: npt.NDArray[np.bool_]
    rejected: npt.NDArray[np.bool_]
    """Would never fit into the memory of the pool that had to serve it."""
    busy_s: Floats
    """Per replica: time in engine steps."""
    powered_s: Floats
    """Per replica: time from its start (cold start included) until it was let go or the simulation ended."""
    steps: Ints
    """Per replica: engine steps."""
    pool_of_replica: Ints
    scaling: ScalePoint
    end_s: float
    """When the last request was finished."""

    def latency_s(self) -> Floats:
        """Time from sending to the last token, per request."""
        return self.finish_s - self.sent_s

    def good(self, ttft_s: float, tpot_s: float) -> npt.NDArray[np.bool_]:
        """Which requests were finished within both limits; a single token has no TPOT and keeps that limit."""
        within = np.isnan(self.tpot_s) | (self.tpot_s <= tpot_s)
        return (self.ttft_s <= ttft_s) & within & np.isfinite(self.finish_s)

    def goodput_s(self, ttft_s: float, tpot_s: float) -> float:
        """Requests per second that were finished within both limits."""
        span = self.end_s - float(np.min(self.sent_s, initial=np.inf, where=np.isfinite(self.sent_s)))
        return float(self.good(ttft_s, tpot_s).sum() / span) if np.isfinite(span) and span > 0 else 0.0

    def utilisation(self) -> float:
        """Share of the powered time of all replicas that engine steps took."""
        powered = float(self.powered_s.sum())
        return float(self.busy_s.sum() / powered) if powered else 0.0
