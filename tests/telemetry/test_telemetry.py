"""Logs are one JSON object per line; metrics say what happened."""

import io
import json
import logging
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from bessemer.core.errors import ConfigError
from bessemer.core.scrub import hide, scrub
from bessemer.store.writer import WriterStats
from bessemer.telemetry.logs import configure, get_logger
from bessemer.telemetry.metrics import Metrics


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_events_are_json_lines() -> None:
    stream = io.StringIO()
    configure("info", stream)
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        get_logger("bessemer.test").info("served", route="matching", seconds=0.5)
    logging.getLogger("library").warning("careful: %s", "x")
    get_logger("bessemer.test").debug("hidden")
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("bessemer.test").exception("failed")
    served, library, failed = map(json.loads, stream.getvalue().splitlines())
    assert served["event"] == "served"
    assert served["request_id"] == "req-1"
    assert served["level"] == "info"
    assert served["route"] == "matching"
    assert library["event"] == "careful: x"
    assert library["logger"] == "library"
    assert failed["exception"][0]["exc_type"] == "ValueError"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ConfigError, match="debug, info"):
        configure("loud")


class Engine(NamedTuple):
    """What an engine says."""

    running: int
    waiting: int


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.expose().decode())
        for sample in family.samples
    }


def test_metrics_count() -> None:
    metrics = Metrics()
    metrics.request("matching", 200, 0.2)
    metrics.tokens("matching", "small", 10, 2)
    metrics.cost("matching", "small", 0.5)
    metrics.cost("matching", "small", None)
    metrics.error("matching", "provider_error")
    metrics.overhead(-0.001)
    metrics.watch_engine(lambda: Engine(3, 4))
    metrics.watch_writer(
        lambda: WriterStats(written=5, spooled=1, replayed=0, rejected=0, queued=2, spooling=True, lost=0)
    )
    found = values(metrics)
    assert found["gen_ai_server_request_duration_seconds_count", "200", "matching"] == 1
    assert found["gen_ai_client_token_usage_total", "input", "matching", "small"] == 10
    assert found["gen_ai_client_token_usage_total", "matching", "output", "small"] == 2
    assert found["bessemer_cost_usd_total", "matching", "small"] == 0.5
    assert found["bessemer_unpriced_calls_total", "matching", "small"] == 1
    assert found["bessemer_request_errors_total", "matching", "provider_error"] == 1
    assert found["bessemer_gateway_overhead_seconds_count",] == 1
    assert found["bessemer_engine_running",] == 3
    assert found["bessemer_engine_waiting",] == 4
    assert found["bessemer_writer_written_total",] == 5
    assert found["bessemer_writer_spooling",] == 1
    assert values(Metrics()) != found


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


SECRETS = (
    "bsm-XIKvdYaG6Ab_x-9",
    "sk-proj-abcDEF123456",
    "hf_abcdefGHIJKL",
    "AKIAIOSFODNN7EXAMPLE",
    "a-key-of-no-known-shape",
    "hunter2hunter2",
)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_neither_values_nor_texts_of_errors_nor_keys_are_logged(stream: type[io.StringIO]) -> None:
    target = stream()
    configure("debug", target)
    hide("a-key-of-no-known-shape")

    def fails(prompt: str, headers: dict[str, str]) -> None:
        try:
            raise ValueError(f"cannot send {prompt} {headers}")
        except ValueError as error:
            raise ExceptionGroup("prompt-canary", [RuntimeError(prompt), error]) from error

    for secret in SECRETS:
        headers = {"authorization": f"Bearer {secret}"}
        for log in (get_logger("bessemer.test"), logging.getLogger("uvicorn.error"), logging.getLogger("dbos")):
            try:
                fails("prompt-canary", headers)
            except ExceptionGroup:
                log.exception("failed")
        get_logger("bessemer.test").info("event", headers=headers, url=f"postgresql://me:{secret}@db/x", text=secret)
        logging.getLogger("library").error("sent %s with api_key=%s", headers, secret)
        logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: RuntimeError('prompt-canary')")
    text = target.getvalue()
    assert text.count("ValueError") >= 18
    assert "in fails" in text or '"name":"fails"' in text
    assert "prompt-canary" not in text
    for secret in SECRETS[:-1]:
        assert secret not in text
    assert f"me:{SECRETS[-1]}" not in text
    assert f"api_key={SECRETS[-1]}" not in text


@pytest.mark.parametrize(
    "text",
    [
        "a task-force of skilled people",
        "hf_",
        "the risk-averse desk-bound",
        "pk-1",
        "a basic setting, unexpected token: identifier",
        "http://127.0.0.1:8080/v1 and me@x.org",
    ],
)
def test_words_are_not_masked(text: str) -> None:
    assert scrub(text) == text


def test_a_secret_is_masked_however_it_is_written() -> None:
    hide('odd"key\\with\nlines\u00e9')
    secret = 'odd"key\\with\nlines\u00e9'
    for text in (secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret)):
        assert "lines" not in scrub(f"<{text}>")
