"""Prometheus metrics of one process, named after OpenTelemetry's GenAI conventions where those have a name.

`gen_ai.client.token.usage` becomes `gen_ai_client_token_usage_total` and so on; the rest begins with `bessemer_`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

_Series = TypeVar("_Series", Counter, Histogram)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

_MAX_ERROR_TYPES = 64


class EngineState(Protocol):
    """What the engine tells about itself."""

    @property
    def running(self) -> int:
        """Sequences being generated."""

    @property
    def waiting(self) -> int:
        """Requests in the queue."""


class WriterState(Protocol):
    """What the writer tells about itself."""

    @property
    def written(self) -> int:
        """Rows in the database."""

    @property
    def spooled(self) -> int:
        """Rows that had to wait on disk."""

    @property
    def replayed(self) -> int:
        """Rows brought from disk."""

    @property
    def rejected(self) -> int:
        """Rows that the database refused."""

    @property
    def queued(self) -> int:
        """Rows waiting."""

    @property
    def spooling(self) -> bool:
        """Whether rows wait on disk now."""


class RungLevel(NamedTuple):
    """How far a rung of a route has stepped back: 0 not at all, 1 its threshold is raised, 2 it is off, 3 the incumbent
    answers alone.
    """

    project: str
    route: str
    rung: str
    level: int


class Metrics:
    """The metrics of one application, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from the request to the end of its answer.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._http = Histogram(
            "http_server_request_duration_seconds",
            "Time of an HTTP request, by path template.",
            ["http_route", "http_response_status_code"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter(
            "gen_ai_client_token_usage",
            "Tokens used.",
            ["route", "gen_ai_request_model", "gen_ai_token_type"],
            registry=self._registry,
        )
        self._cost = Counter(
            "bessemer_cost_usd", "Cost of priced calls in USD.", ["route", "gen_ai_request_model"],
            registry=self._registry,
        )  # fmt: skip
        self._unpriced = Counter(
            "bessemer_unpriced_calls", "Calls whose cost is not known.", ["route", "gen_ai_request_model"],
            registry=self._registry,
        )  # fmt: skip
        self._errors = Counter(
            "bessemer_request_errors", "Requests that failed.", ["route", "error_type"], registry=self._registry
        )
        self._avoided = Gauge(
            "bessemer_endpoint_avoided",
            "1 while a model's endpoint fails and others are asked in its place.",
            ["endpoint"],
            registry=self._registry,
        )
        self._cache = Counter(
            "bessemer_cache_requests",
            "Requests of routes that keep answers.",
            ["route", "outcome"],
            registry=self._registry,
        )
        self._saved = Counter(
            "bessemer_cache_saved_usd", "What kept answers would have cost anew.", ["route"], registry=self._registry
        )
        self._alike = Counter(
            "bessemer_cache_checks",
            "Answers to questions that mean the same, compared with the model's own.",
            ["route", "outcome"],
            registry=self._registry,
        )
        self._alike_bound = Gauge(
            "bessemer_cache_false_hit_bound",
            "Upper bound of the share of wrong answers to questions that mean the same.",
            ["route"],
            registry=self._registry,
        )
        self._alike_given = Gauge(
            "bessemer_cache_semantic_given",
            "1 while answers to questions that mean the same are given.",
            ["route"],
            registry=self._registry,
        )
        self._error_types: set[str] = set()
        self._overhead = Histogram(
            "bessemer_gateway_overhead_seconds",
            "Time of a request that was not spent waiting for a provider.",
            buckets=_OVERHEAD_SECONDS,
            registry=self._registry,
        )

        self._children: dict[tuple[str, ...], Any] = {}
        """By the metric's name and the labels' values: the library's own search takes longer than to count."""

    def _child(self, metric: _Series, *labels: str) -> _Series:
        key = (metric._name, *labels)
        found: _Series | None = self._children.get(key)
        if found is None:
            found = self._children[key] = metric.labels(*labels)
        return found

    def request(self, route: str, status: int | str, seconds: float) -> None:
        """Count one finished request. `route` must be a known name: free text would grow without bound."""
        self._child(self._duration, route, str(status)).observe(seconds)

    def http(self, path_template: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `path_template` must be one of the server's: raw paths would grow without bound."""
        self._child(self._http, path_template, str(status)).observe(seconds)

    def tokens(self, route: str, model: str, input_tokens: int, output_tokens: int) -> None:
        """Count the tokens of one call."""
        self._child(self._tokens, route, model, "input").inc(input_tokens)
        self._child(self._tokens, route, model, "output").inc(output_tokens)

    def cost(self, route: str, model: str, usd: float | None) -> None:
        """Count the cost of one call; None is counted as unpriced, never as nothing."""
        if usd is None:
            self._child(self._unpriced, route, model).inc()
        else:
            self._child(self._cost, route, model).inc(usd)

    def overhead(self, seconds: float) -> None:
        """Count what the gateway added to one request."""
        self._overhead.observe(max(seconds, 0.0))

    def error(self, route: str, error_type: str) -> None:
        """Count one failed request. Types beyond the first `_MAX_ERROR_TYPES` are counted as `other`."""
        if error_type not in self._error_types:
            if len(self._error_types) >= _MAX_ERROR_TYPES:
                error_type = "other"
            self._error_types.add(error_type)
        self._child(self._errors, route, error_type).inc()

    def cache(self, route: str, outcome: str, saved_usd: float | None) -> None:
        """Count a request of a route that keeps answers: a `hit` with what it saved, or a `miss`."""
        self._child(self._cache, route, outcome).inc()
        if saved_usd:
            self._child(self._saved, route).inc(saved_usd)

    def alike(self, route: str, *, wrong: bool, bound: float, given: bool) -> None:
        """Count a check of an answer to a question that means the same, and tell what all of them show."""
        self._child(self._alike, route, "different" if wrong else "same").inc()
        self._alike_bound.labels(route).set(bound)
        self._alike_given.labels(route).set(given)

    def avoided(self, endpoint: str, level: int) -> None:
        """Tell that an endpoint is avoided from now on (1), or no more (0)."""
        self._avoided.labels(endpoint).set(level)

    def watch_engine(self, state: Callable[[], EngineState]) -> None:
        """Ask the engine for its state whenever the metrics are read."""
        self._registry.register(_EngineCollector(state))

    def watch_writer(self, state: Callable[[], WriterState]) -> None:
        """Ask the writer for its counters whenever the metrics are read."""
        self._registry.register(_WriterCollector(state))

    def watch_rungs(self, state: Callable[[], Iterable[RungLevel]]) -> None:
        """Ask how far rungs have stepped back whenever the metrics are read."""
        self._registry.register(_RungCollector(state))

    def expose(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    def __init__(self, state: Callable[[], EngineState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        yield GaugeMetricFamily("bessemer_engine_running", "Sequences being generated.", value=state.running)
        yield GaugeMetricFamily("bessemer_engine_waiting", "Requests in the engine's queue.", value=state.waiting)


class _RungCollector(Collector):
    def __init__(self, state: Callable[[], Iterable[RungLevel]]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        text = "How far a rung has stepped back: 0 not at all, 1 raised, 2 off, 3 the incumbent answers alone."
        levels = GaugeMetricFamily("bessemer_rung_fallback", text, labels=["project", "route", "rung"])
        for one in self._state():
            levels.add_metric([one.project, one.route, one.rung], one.level)
        yield levels


class _WriterCollector(Collector):
    def __init__(self, state: Callable[[], WriterState]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        counted = {
            "written": ("Rows brought to the database.", state.written),
            "spooled": ("Rows that had to wait on disk.", state.spooled),
            "replayed": ("Rows brought to the database from disk.", state.replayed),
            "rejected": ("Rows that the database refused, kept in rejected.jsonl.", state.rejected),
        }
        for name, (text, value) in counted.items():
            yield CounterMetricFamily(f"bessemer_writer_{name}", text, value=value)
        yield GaugeMetricFamily("bessemer_writer_queued", "Rows waiting for the database.", value=state.queued)
        yield GaugeMetricFamily("bessemer_writer_spooling", "1 while rows wait on disk.", value=float(state.spooling))
