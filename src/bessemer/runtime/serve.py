"""Runs the API process: bind, compose, serve, keep the worker running, stop in order."""

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import uvicorn
import uvloop

from bessemer.core.errors import ConfigError, StoreError
from bessemer.core.settings import Settings
from bessemer.engine.extra import installed
from bessemer.http.connections import protocol_of
from bessemer.identity.admin_key import keep_admin_key
from bessemer.registry import weights
from bessemer.runtime.app import build
from bessemer.runtime.compose import open_services
from bessemer.runtime.locks import keep_private, only_one
from bessemer.runtime.supervise import keep_running
from bessemer.telemetry.logs import catch_uncaught, configure

log = structlog.get_logger("bessemer.serve")
URL_FILE = "server.url"
"""In the data folder: where the running server listens."""
OFFLINE: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Set in every process of Bessemer: libraries must not call home."""
_WRITE_PATIENCE_S = 3.0
"""Somebody waits for the answer: after so long it is that the database is busy."""
SHARING: Mapping[str, str] = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "6000",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Server and worker share the cores: a thread that waits spins for about a tenth of a millisecond, then sleeps.

Sleeping at once costs a training run that has the cores to itself a quarter of its speed, because each product waits
for a thread to wake; spinning for long slows down both processes when both compute.
"""


class Started(NamedTuple):
    """What is worth telling once the server listens."""

    url: str
    admin_key: str | None
    """Only when it was made just now."""


_TURN_S = 0.001
"""After how long a thread that computes gives way to the event loop, which asks for a turn several times a request."""


def serve(settings: Settings, announce: Callable[[Started], None], *, worker: bool = True) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises ConfigError, StoreError before anything listens; StoreError at the end when answered requests are lost.
    """
    configure(settings.log_level)
    catch_uncaught()
    keep_private(settings.data)
    os.environ.update({**OFFLINE, **SHARING})
    with only_one(settings.data / "server.lock"), asyncio.Runner(loop_factory=partial(_Loop, settings)) as runner:
        _bring_weights(settings)
        runner.run(_serve(settings, announce, worker=worker))


def _bring_weights(settings: Settings) -> None:
    """On the built-in configuration, bring its model. Without a network the server starts all the same."""
    if not settings.fetch_weights or settings.config_path.is_file():
        return
    if not installed():
        log.warning("engine.missing", remedy="pip install 'bessemer[local]'")
        return
    try:
        weights.ensure(weights.SMOLLM2, settings.models_dir, lambda text: log.info("weights", progress=text))
    except StoreError as error:
        log.warning("weights.missing", reason=error.message)


async def _serve(settings: Settings, announce: Callable[[Started], None], *, worker: bool) -> None:
    loop = asyncio.get_running_loop()
    tls = tls_context(settings)
    listener = _bind(settings.host, settings.port)
    services = open_services(settings, loop, write_patience_s=_WRITE_PATIENCE_S)
    admin_key = services.keys.ensure_admin(partial(keep_admin_key, settings.data))
    server = _Server(
        uvicorn.Config(
            build(services),
            http=protocol_of(settings),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=math.ceil(settings.keep_alive_s),
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
    )
    # What lives as long as the process is looked through no more: with each large request it would take a tenth of a
    # second of everybody's time.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_TURN_S)
    supervisor: asyncio.Task[None] | None = None

    def stop() -> None:
        if supervisor is not None:  # first, so that nothing is restarted while the server drains
            supervisor.cancel()
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    await server.listens(serving)
    if server.started:
        url = _url(listener, "http" if tls is None else "https")
        (settings.data / URL_FILE).write_text(url + "\n")
        if worker:
            command = [sys.executable, "-m", "bessemer", "worker", "--supervised"]
            supervisor = asyncio.create_task(keep_running(command, os.environ | environment(settings)))
        announce(Started(url, admin_key))
    await serving
    (settings.data / URL_FILE).unlink(missing_ok=True)
    if supervisor is not None:
        if not supervisor.cancelling():  # a second time would break off its wait for the worker's end
            supervisor.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervisor
    if lost := services.writer.stats().lost:
        raise StoreError(f"{lost} answered requests are not recorded: neither the database nor the journal took them.")


class _Loop(uvloop.Loop):
    """Ends a TLS handshake that takes longer than a request's head may: before it, no other limit knows a connection,
    and uvicorn leaves it the sixty seconds of asyncio.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._handshake_s = settings.header_timeout_s

    async def create_server(self, *given: Any, **named: Any) -> Any:
        if named.get("ssl") is not None:
            named["ssl_handshake_timeout"] = self._handshake_s
        return await super().create_server(*given, **named)


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def listens(self, serving: asyncio.Future[None]) -> None:
        """Wait until it listens, or has failed to."""
        listening = asyncio.ensure_future(self._listening.wait())
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return how the server speaks TLS (1.2 or newer); None without a certificate. Raises ConfigError."""
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise ConfigError("tls_key is set without tls_cert; set both.", param="tls_cert")
        return None
    for name, path in (("tls_cert", settings.tls_cert), ("tls_key", settings.tls_key)):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError(f"{name} {str(path)!r} does not exist or cannot be read.", param=name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A password would be asked for on the terminal: a key that needs one is refused.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not PEM, or the key needs a password"
        raise ConfigError(f"tls_cert and tls_key cannot be used: {reason}.", param="tls_cert") from None
    return context


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, TypeError) as error:  # TypeError: a name that DNS cannot carry
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {reason}. Choose another with --host, or --port (0: any free).",
            param="port",
        ) from None
    listener.set_inheritable(False)
    return listener


def environment(settings: Settings) -> dict[str, str]:
    """Return settings as environment variables, so that a child process gets the same ones."""
    values = {field: getattr(settings, field) for field in settings.__struct_fields__}
    absolute = {key: value.resolve() if isinstance(value, Path) else value for key, value in values.items()}
    return {f"BESSEMER_{key.upper()}": str(value) for key, value in absolute.items() if value is not None}
