"""Stalls that need no key: each is cut, costs no memory, and a second client does not notice."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from openai import DefaultHttpxClient, OpenAI
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server

from bessemer.core.errors import ConfigError
from bessemer.core.settings import Settings
from bessemer.runtime.serve import tls_context
from lab.fake_openai import Script

LIMITS = {
    "BESSEMER_HEADER_TIMEOUT_S": "1.0",
    "BESSEMER_BODY_TIMEOUT_S": "1.0",
    "BESSEMER_KEEP_ALIVE_S": "2.0",
    "BESSEMER_MAX_CONNECTIONS_PER_ADDRESS": "120",
}
UNNOTICED_S = 0.5
"""Generous: on a quiet machine it is a tenth of this."""
UNNOTICED_MB = 40


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("bounded"), upstream, "--no-worker", env={**OFFLINE, **LIMITS})
    yield running
    stop_server(running)


def connect(server: Server) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


def answer(connection: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return received


def told(received: bytes) -> tuple[int, dict[str, object]]:
    """Return status and error of an answer, which has OpenAI's shape."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"x-request-id: req-" in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return int(head.split(b" ")[1]), error


def send(server: Server, data: bytes) -> bytes:
    with connect(server) as connection:
        connection.sendall(data)
        return answer(connection)


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


class Onlooker:
    """Another client, who asks for /healthz all the time; `slowest` is what it waited at most."""

    def __init__(self, server: Server) -> None:
        self.slowest = 0.0
        self._url = f"{server.url}/healthz"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            began = time.monotonic()
            with urllib.request.urlopen(self._url, timeout=20) as response:
                assert response.status == 200
            self.slowest = max(self.slowest, time.monotonic() - began)

    def __enter__(self) -> "Onlooker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def endless_header(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ")
        began, sent = time.monotonic(), 0
        with suppress(ConnectionError):
            while time.monotonic() - began < 3 and sent < 400_000_000:
                connection.sendall(b"a" * 1_000_000)
                sent += 1_000_000
        assert sent < 50_000_000


def endless_headers(server: Server) -> None:
    with connect(server) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        while True:
            connection.sendall(b"X-A: b\r\n" * 10_000)


def trickle(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(100)]
        for connection in connections:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        began = time.monotonic()
        while time.monotonic() - began < 1.6:
            time.sleep(0.2)
            for connection in connections:
                with suppress(ConnectionError):
                    connection.sendall(b"a")
        for connection in connections:
            assert answer(connection)[:12] in {b"HTTP/1.1 408", b""}


def silence(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(100)]
        began = time.monotonic()
        for connection in connections:
            assert answer(connection) == b""
        assert 0.5 < time.monotonic() - began < 5


def silence_after_an_answer(server: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(100)]
        for connection in connections:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in connections:
            assert answer(connection).startswith(b"HTTP/1.1 200")


def slow_body(server: Server) -> None:
    head = f"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\nContent-Length: 50\r\n\r\n"
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(50)]
        for connection in connections:
            connection.sendall(head.encode() + b"{")
        for connection in connections:
            assert told(answer(connection))[0] == 408


STALLS = (endless_header, endless_headers, trickle, silence, silence_after_an_answer, slow_body)


@pytest.mark.parametrize("stall", STALLS, ids=lambda stall: stall.__name__)
def test_a_stall_is_cut_and_nobody_else_notices(bounded: Server, stall: Callable[[Server], None]) -> None:
    before = resident_mb(bounded)
    with Onlooker(bounded) as onlooker:
        stall(bounded)
    assert onlooker.slowest < UNNOTICED_S
    assert resident_mb(bounded) - before < UNNOTICED_MB


def test_a_body_of_millions_of_values_is_refused_and_stops_nobody(bounded: Server) -> None:
    body = b'{"model":"m","messages":[],"bessemer":{"input":{"a":[' + b"[]," * 5_000_000 + b"[]]}}}"
    lines = ("POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {bounded.key}")
    head = "\r\n".join([*lines, "Connection: close", f"Content-Length: {len(body)}", "", ""])
    with Onlooker(bounded) as onlooker:
        assert send(bounded, head.encode() + body).startswith(b"HTTP/1.1 400")
    assert onlooker.slowest < 2 * UNNOTICED_S


def test_what_is_too_large_is_told_and_what_is_not_is_served(bounded: Server) -> None:
    big = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Big: " + b"a" * 60_000 + b"\r\n\r\n"
    assert send(bounded, big).startswith(b"HTTP/1.1 200")
    bigger = big.replace(b"\r\n\r\n", b"a" * 10_000 + b"\r\n\r\n")
    status, error = told(send(bounded, bigger))
    assert (status, error["code"]) == (431, "headers_too_large")
    assert "max_header_bytes" in str(error["message"])


def test_an_address_has_so_many_connections_and_no_more(bounded: Server) -> None:
    with ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(connect(bounded))
        time.sleep(0.2)
        received = answer(stack.enter_context(connect(bounded)))
        status, error = told(received)
        assert (status, error["code"]) == (429, "rate_limit_exceeded")
        assert b"retry-after: 1" in received
    time.sleep(0.2)
    with urllib.request.urlopen(f"{bounded.url}/healthz", timeout=20) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["two lengths", "TLS", "no host", "two hosts", "HTTP/0.9", "HTTP/2", "nonsense", "no ASCII"],
)
def test_malformed_http_is_answered_in_the_one_error_shape(bounded: Server, data: bytes) -> None:
    status, error = told(send(bounded, data))
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_http")


def test_old_and_pipelined_requests_are_served(bounded: Server) -> None:
    assert send(bounded, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    received = send(bounded, one * 3 + one.replace(b"Host", b"Connection: close\r\nHost"))
    assert received.count(b"HTTP/1.1 200") == 4


def test_an_answer_may_take_longer_than_a_head_and_its_connection_lives_on(bounded: Server) -> None:
    bounded.upstream.scripts.waiting.append(Script(pieces=("a", "b"), first_token_s=1.5, between_s=1.5))
    body = b'{"model":"assistant","messages":[{"role":"user","content":"x"}],"stream":true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bounded.key}\r\n"
    with connect(bounded) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)
        assert b"[DONE]" in received
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 200")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key made for this run, and its own certificate of 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl, which makes a key and a certificate, is not installed (Debian: openssl)")
    folder = tmp_path_factory.mktemp("tls")
    made = [
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *made], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_real_client_connects_over_tls(tmp_path: Path, upstream: Upstream, tls: Path) -> None:
    files = ("--tls-cert", str(tls / "cert.pem"), "--tls-key", str(tls / "key.pem"))
    running = start_server(tmp_path, upstream, "--no-worker", *files)
    try:
        assert running.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=tls / "cert.pem")
        with DefaultHttpxClient(verify=trusting) as http:
            client = OpenAI(base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, http_client=http)
            said = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
            assert said.choices[0].message.content == "ok"
        with pytest.raises(OSError, match="certificate verify failed"):
            urllib.request.urlopen(f"{running.url}/healthz", timeout=20)
    finally:
        stop_server(running)


def test_a_tls_handshake_that_does_not_come_is_ended(tmp_path: Path, upstream: Upstream, tls: Path) -> None:
    files = ("--tls-cert", str(tls / "cert.pem"), "--tls-key", str(tls / "key.pem"))
    hasty = OFFLINE | {"BESSEMER_HEADER_TIMEOUT_S": "0.5"}
    server = start_server(tmp_path, upstream, "--no-worker", *files, env=hasty)
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=15) as silent:
        assert silent.recv(1) == b""
    stop_server(server)


def test_tls_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path, tls: Path) -> None:
    cert, key, none = tls / "cert.pem", tls / "key.pem", tmp_path / "none.pem"
    (tmp_path / "text.pem").write_text("no PEM")
    for given, name in (
        ({"tls_key": key}, "tls_cert"),
        ({"tls_cert": none, "tls_key": key}, "tls_cert"),
        ({"tls_cert": cert, "tls_key": none}, "tls_key"),
        ({"tls_cert": cert}, "tls_cert"),
        ({"tls_cert": tmp_path / "text.pem", "tls_key": key}, "tls_cert"),
    ):
        with pytest.raises(ConfigError, match=name):
            tls_context(Settings(**given))
    assert tls_context(Settings()) is None
