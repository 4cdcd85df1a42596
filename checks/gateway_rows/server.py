"""A server under test with the scripted upstream behind it, and a small HTTP client."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

SMALL = "smollm2-135m"
SCRIPTS = [
    "plain",
    "reason",
    "reason-cut",
    "refusal",
    "parts",
    "ignores-stream",
    "always-stream",
    "retry-after",
    "null-logprob",
    "old-logprobs",
    "no-usage",
    "empty-finish",
    "null-choices",
    "no-done",
    "keepalive",
    "crlf",
    "cr-only",
    "bom",
    "u2028",
    "split-emoji",
    "slow65",
    "pause35",
    "html",
    "redirect",
    "float-usage",
    "echo",
    "error-string",
    "fastapi-422",
]
"""Names of the scripts, each a model of its own."""
UPSTREAM_KEY = "sk-made-up-canary-5512"
QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "6000"}
"""As the Makefile sets it: waiting threads sleep, the cores may be others', too."""


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], text: str) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.text = text

    @property
    def body(self) -> Any:
        """The answer as JSON; None where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None

    @property
    def error(self) -> str:
        """The error's message; empty without one."""
        body = self.body
        return str((body.get("error") or {}).get("message", "")) if isinstance(body, dict) else ""

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message."""
        found: dict[str, Any] = self.body["choices"][0]["message"]
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a stream, without [DONE]."""
        lines = (line[6:] for line in self.text.split("\n") if line.startswith("data: "))
        return [json.loads(line) for line in lines if line != "[DONE]"]

    def said(self, field: str = "content") -> str:
        """Return what a stream's deltas say in one field."""
        choices = [choice for event in self.events for choice in event.get("choices") or []]
        return "".join(choice["delta"].get(field) or "" for choice in choices)

    @property
    def done(self) -> bool:
        """Whether a stream ended as it should."""
        return self.text.rstrip().endswith("data: [DONE]")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Upstream:
    """The scripted upstream of the cases folder, run from there."""

    def __init__(self, cases: Path) -> None:
        self.port = free_port()
        self._process = subprocess.Popen([sys.executable, str(cases / "mock_upstream.py"), str(self.port)])

    def last(self) -> dict[str, Any]:
        """Return headers and body of the last request that it got."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/last")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def configuration(upstream: Upstream, cases: Path, *, models: bool = True) -> str:
    """Return a bessemer.toml with a model for each script, two recorded ones and a prompt."""
    url = f"http://127.0.0.1:{upstream.port}/v1"
    lines = ["include_default = true"] if models else []

    def model(name: str, script: str, *more: str, base: str = url) -> None:
        lines.extend([f"[models.{name}]", 'provider = "openai"', f'base_url = "{base}"'])
        lines.extend([f'upstream_model = "{script}"', 'price = "p"', *more])

    for name in SCRIPTS if models else ():
        model(name, name)
    model("keyed", "plain", 'api_key_env = "UPSTREAM_KEY"')
    model("slash", "plain", base=url + "/")
    lines += ["[prices.p]", 'source = "made up"', 'date = "2026-01-01"']
    lines += ["input_per_million = 1.0", "output_per_million = 2.0"]
    lines += ["[models.weird]", 'provider = "recorded"', f'path = "{cases / "weird.jsonl"}"']
    lines += ["[prompts.ask]", 'user = "{{input.text}}"', 'choices = ["spam", "ham"]']
    return "\n".join(lines) + "\n"


class Server:
    """`bessemer up` on a free port with a data folder of its own."""

    def __init__(self, data: Path, config: str, models: Path | None = None, **environment: str) -> None:
        self.data, self.port, self.log = data, free_port(), data / "up.log"
        data.mkdir(parents=True, exist_ok=True)
        if models is not None:
            shutil.copytree(models, data / "models", dirs_exist_ok=True)
        (data / "bessemer.toml").write_text(config)
        given = os.environ | QUIET | {"UPSTREAM_KEY": UPSTREAM_KEY, "BESSEMER_PORT": str(self.port)} | environment
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bessemer", "--data", str(data), "up"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=given,
                start_new_session=True,
            )
        self.key = ""

    def ready(self, seconds: float = 120) -> bool:
        """Wait until it answers; False when it ended instead."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.call("GET", "/readyz", key=None).status == 200:
                    self.key = (self.data / "admin.key").read_text().strip()
                    return True
            except OSError:
                pass
            time.sleep(0.1)
        return False

    def call(
        self, method: str, path: str, body: Any = None, key: str | None = "", timeout: float = 120, **headers: str
    ) -> Answer:
        """Return the answer to one request; bytes are sent as they are, all else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        given = {} if key is None else {"Authorization": f"Bearer {key or self.key}"}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            given["Content-Type"] = "application/json"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def chat(self, model: str = SMALL, content: Any = "Say hi.", key: str | None = "", **more: Any) -> Answer:
        """Ask one question."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 4} | more
        return self.call("POST", "/v1/chat/completions", body, key)

    def stream(self, model: str, **more: Any) -> Answer:
        """Ask one question and have the answer streamed, with usage."""
        return self.chat(model, stream=True, stream_options={"include_usage": True}, **more)

    def upload(self, data: bytes, name: str = "rows.jsonl") -> Answer:
        """Upload a training file."""
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--{edge}\r\n'
        head += f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        form = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
        return self.call("POST", "/v1/files", form, Content_Type=f"multipart/form-data; boundary={edge}")

    def raw(self, data: bytes, timeout: float = 15) -> bytes:
        """Send bytes over a socket; return what comes back."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as connection:
            connection.sendall(data)
            try:
                while part := connection.recv(65536):
                    received += part
            except OSError as error:
                received += type(error).__name__.encode()
        return received

    def logged(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        """End it with its worker."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
