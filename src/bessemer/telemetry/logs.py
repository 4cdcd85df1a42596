"""Structured logs: one event per line, JSON for machines, coloured text on a terminal; library logs as well.

A log never holds a secret, a prompt or an answer. Errors are told by type and place: their text and the values of
variables may be anything that was being worked on. What is written passes a scrubber of key-shaped text last.
"""

import asyncio
import datetime
import json
import logging
import sys
import threading
import traceback
import warnings
from contextlib import nullcontext, suppress
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, TextIO

import msgspec
import structlog

from bessemer.core.errors import ConfigError
from bessemer.core.scrub import scrub

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_MAX_FRAMES = 50
_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode
_OWN_HANDLERS = ("dbos",)
"""Libraries that write to standard error themselves as long as their logger has no handler."""


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log event of the process to a stream (default: standard error). Call once, in the composition root.

    Uncaught errors and warnings become events too. Raises ConfigError for an unknown level.
    """
    if level not in _LEVELS:
        raise ConfigError(f"log_level is {level!r}: give one of {', '.join(_LEVELS)}.", param="log_level")
    target = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _first_line_of_asyncio,
    ]
    final: list[structlog.typing.Processor] = (
        [_errors_as_text, structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if target.isatty()
        else [structlog.processors.ExceptionRenderer(_outline), _as_json]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        _Scrubbing(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _OWN_HANDLERS:
        library = logging.getLogger(name)
        library.handlers[:] = [logging.NullHandler()]
        library.propagate = True
    global _json_to  # noqa: PLW0603 - one process has one log
    _json_to = None if target.isatty() else _JSONStream(handler, _LEVELS[level])
    # Our own events take the short way to the stream: a record of the standard library would be a tenth of a request.
    structlog.configure(
        processors=[*shared, *final],
        logger_factory=partial(_Lines, handler),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=False,
    )


def catch_uncaught() -> None:
    """Make events of errors that nothing catches, and of warnings, in place of Python's own tracebacks."""
    log = logging.getLogger("bessemer.uncaught")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("uncaught", exc_info=(kind, error, trace))

    def in_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is not None and found.exc_type is not SystemExit:
            log.critical("uncaught in a thread", exc_info=(found.exc_type, found.exc_value, found.exc_traceback))

    def unraisable(found: "sys.UnraisableHookArgs") -> None:
        if found.exc_value is not None:
            log.error("unraisable", exc_info=(found.exc_type, found.exc_value, found.exc_traceback))

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable
    if not any(action == "error" for action, *_ in warnings.filters):
        logging.captureWarnings(capture=True)


def get_logger(name: str) -> Any:
    """Return a logger: `log.info("event", key=value)`; values bound with structlog.contextvars are added to each."""
    return structlog.stdlib.get_logger(name)


class _Scrubbing(structlog.stdlib.ProcessorFormatter):
    """Masks key-shaped text in each finished line of a library."""

    def format(self, record: logging.LogRecord) -> str:
        return scrub(super().format(record))


class _Lines:
    """Writes finished lines, masked too, to a handler's stream. What cannot be written stops nobody."""

    def __init__(self, handler: "logging.StreamHandler[TextIO]", name: str) -> None:
        self._handler = handler
        self.name = name

    def info(self, line: str) -> None:
        with self._handler.lock or nullcontext(), suppress(OSError, ValueError):
            self._handler.stream.write(scrub(line) + self._handler.terminator)
            self._handler.stream.flush()

    debug = warning = error = critical = exception = info


class AccessLog:
    """Writes a line for each request, all of one turn of the event loop together.

    The fields are the caller's own, never a client's text: they pass no scrubber. On a terminal, and below the level
    `info`, it is a logger like any other.
    """

    def __init__(self, name: str) -> None:
        self._log = get_logger(name)
        self._name = name
        self._lines: list[bytes] = []

    def request(self, **fields: Any) -> None:
        """Write the event `request`. On a running event loop alone."""
        if _json_to is None or _json_to.level > logging.INFO:
            self._log.info("request", **fields)
            return
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        told = {"event": "request", "level": "info", "logger": self._name, "timestamp": now, **fields}
        self._lines.append(_encode_line(told))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        if _json_to is not None:
            _json_to.write(b"\n".join(lines).decode() + "\n")


class _JSONStream(NamedTuple):
    """Where lines of JSON go."""

    handler: "logging.StreamHandler[TextIO]"
    level: int

    def write(self, text: str) -> None:
        """Write finished lines. What cannot be written stops nobody."""
        with self.handler.lock or nullcontext(), suppress(OSError, ValueError):
            self.handler.stream.write(text)
            self.handler.stream.flush()


_json_to: _JSONStream | None = None
"""None: lines are for people, or nothing was configured."""
_encode_line = msgspec.json.Encoder().encode


def _as_json(_logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
    return _encode(event)


def _first_line_of_asyncio(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # The other lines are representations of tasks, with the text of their errors.
    if event.get("logger") == "asyncio":
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _outline(exc_info: structlog.typing.ExcInfo) -> list[dict[str, Any]]:
    """Return an error and what caused it, outermost first: type, what the system said, and places; no values."""
    found: list[dict[str, Any]] = []
    error: BaseException | None = exc_info[1]
    while error is not None and len(found) < _MAX_FRAMES:
        frames = [
            {"filename": frame.filename, "lineno": frame.lineno, "name": frame.name}
            for frame in traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
        ]
        outline: dict[str, Any] = {"exc_type": type(error).__name__, "frames": frames}
        if isinstance(error, OSError) and error.errno is not None:
            outline["reason"] = error.strerror
        if isinstance(error, BaseExceptionGroup):
            outline["exceptions"] = [_outline((type(one), one, one.__traceback__)) for one in error.exceptions]
        found.append(outline)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found


def _errors_as_text(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For a terminal: the outline as lines of text."""
    event = structlog.processors.ExceptionRenderer(_outline)(logger, method, event)
    if "exception" in event:
        event["exception"] = "\n".join(line for part in event["exception"] for line in _lines(part))
    return event


def _lines(part: dict[str, Any], indent: str = "") -> list[str]:
    reason = f": {part['reason']}" if part.get("reason") else ""
    lines = [f"{indent}{part['exc_type']}{reason}"]
    lines += [f"{indent}  {one['filename']}:{one['lineno']} in {one['name']}" for one in part["frames"]]
    for group in part.get("exceptions", []):
        for inner in group:
            lines += _lines(inner, indent + "    ")
    return lines
