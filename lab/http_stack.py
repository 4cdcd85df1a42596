"""Measures HTTP stacks for docs/decisions/001-http-stack.md: one chat endpoint, as each framework would have it.

    python3.11 -m venv v
    v/bin/pip install starlette fastapi litestar granian 'uvicorn[standard]' msgspec aiohttp httpx httpx2
    v/bin/python lab/http_stack.py            # needs wrk on the PATH; prints a table

Every server decodes the same chat request into a type and encodes the same answer. Rounds are interleaved, so that a
busy machine disturbs all alike; the median of the rounds is printed.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

ROUNDS = 5
SECONDS = 3
CONNECTIONS = 32
BODY = (
    b'{"model":"m","messages":[{"role":"system","content":"You compare records."},{"role":"user","content":"%s"}]}'
    % (b"Acme Turbo 300 " * 16)
)


class ChatBody(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: list[dict[str, Any]]
    temperature: float | None = None


class AnswerBody(msgspec.Struct):
    id: str
    model: str
    choices: list[dict[str, Any]]
    object: str = "chat.completion"


def answer(chat: ChatBody) -> AnswerBody:
    return AnswerBody("chatcmpl-1", chat.model, [{"index": 0, "message": {"role": "assistant", "content": "Yes"}}])


decode = msgspec.json.Decoder(ChatBody).decode
encode = msgspec.json.Encoder().encode


async def raw(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    out = encode(answer(decode(body)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(out)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": out})


def starlette_routing() -> Any:
    """Starlette's router around a raw ASGI endpoint: what Bessemer uses."""
    from starlette.requests import Request
    from starlette.routing import Route, Router

    class ChatEndpoint:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            out = encode(answer(decode(await Request(scope, receive).body())))
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(out)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": out})

    return Router([Route("/v1/chat/completions", ChatEndpoint(), methods=["POST"])])


def starlette_full() -> Any:
    """Starlette as its tutorial has it: application, function endpoint, Response, one BaseHTTPMiddleware."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.responses import Response
    from starlette.routing import Route

    async def endpoint(request: Any) -> Response:
        return Response(encode(answer(decode(await request.body()))), media_type="application/json")

    class Pass(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    routes = [Route("/v1/chat/completions", endpoint, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(Pass)])


def fastapi() -> Any:
    from fastapi import FastAPI
    from pydantic import BaseModel

    class ChatModel(BaseModel):
        model: str
        messages: list[dict[str, Any]]
        temperature: float | None = None

    class AnswerModel(BaseModel):
        id: str
        model: str
        choices: list[dict[str, Any]]
        object: str = "chat.completion"

    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def endpoint(chat: ChatModel) -> AnswerModel:
        choices = [{"index": 0, "message": {"role": "assistant", "content": "Yes"}}]
        return AnswerModel(id="chatcmpl-1", model=chat.model, choices=choices)

    return app


def litestar() -> Any:
    from litestar import Litestar, post

    @post("/v1/chat/completions", status_code=200)
    async def endpoint(data: ChatBody) -> AnswerBody:
        return answer(data)

    return Litestar([endpoint], openapi_config=None)


def forwarding(kind: str) -> Any:
    """A raw ASGI application that forwards to the server at UPSTREAM with one pooled client."""
    upstream = os.environ.get("UPSTREAM", "")
    client: Any = None

    async def post_aiohttp(body: bytes) -> bytes:
        nonlocal client
        import aiohttp

        if client is None:
            client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with client.post(upstream, data=body) as response:
            content: bytes = await response.read()
            return content

    async def post_httpx(body: bytes) -> bytes:
        nonlocal client
        module = __import__(kind)
        if client is None:
            client = module.AsyncClient(limits=module.Limits(max_connections=None, max_keepalive_connections=None))
        content: bytes = (await client.post(upstream, content=body)).content
        return content

    post = post_aiohttp if kind == "aiohttp" else post_httpx

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await raw(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        decode(body)
        out = await post(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(out)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": out})

    return app


def application() -> Any:
    """The application named by STACK."""
    name = os.environ["STACK"]
    if name.startswith("forward:"):
        return forwarding(name.partition(":")[2])
    makers = {"starlette-router": starlette_routing, "starlette-full": starlette_full, "fastapi": fastapi}
    return raw if name == "raw" else {**makers, "litestar": litestar}[name]()


def start(stack: str, server: str, port: int, upstream: str) -> subprocess.Popen[bytes]:
    bin_folder = Path(sys.executable).parent
    here = str(Path(__file__).parent)
    if server == "uvicorn":
        flags = ["--app-dir", here, "--factory", "--no-access-log", "--log-level", "error", "--port", str(port)]
        command = [str(bin_folder / "uvicorn"), "http_stack:application", *flags]
    else:
        flags = ["--interface", "asgi", "--factory", "--workers", "1", "--no-access-log", "--log-level", "error"]
        command = [
            str(bin_folder / "granian"),
            *flags,
            "--port",
            str(port),
            "--loop",
            "uvloop",
            "http_stack:application",
        ]
    environment = os.environ | {"STACK": stack, "UPSTREAM": upstream, "PYTHONPATH": here}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/chat/completions", BODY, {"content-type": "application/json"}
            )
            urllib.request.urlopen(request, timeout=5).read()
            return process
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"{stack} on {server} did not start")


def load(port: int, script: Path) -> float:
    """Return requests a second of one wrk round. Raises RuntimeError when an answer was not 200."""
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    flags = ["-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script)]
    text = subprocess.run(["wrk", *flags, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(text)
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("Requests/sec")))


async def main() -> None:
    stacks = [(name, "uvicorn") for name in ("raw", "starlette-router", "starlette-full", "litestar", "fastapi")]
    stacks += [("raw", "granian"), ("starlette-router", "granian")]
    stacks += [(f"forward:{kind}", "uvicorn") for kind in ("aiohttp", "httpx", "httpx2")]
    figures: dict[tuple[str, str], list[float]] = {stack: [] for stack in stacks}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(
            f"wrk.method='POST'\nwrk.body=[[{BODY.decode()}]]\nwrk.headers['content-type']='application/json'\n"
        )
        upstream = start("raw", "granian", 9100, "")
        processes = {
            stack: start(*stack, 9101 + index, "http://127.0.0.1:9100/v1/chat/completions")
            for index, stack in enumerate(stacks)
        }
        try:
            for _ in range(ROUNDS):
                for index, stack in enumerate(stacks):
                    figures[stack].append(load(9101 + index, script))
        finally:
            for process in [upstream, *processes.values()]:
                process.terminate()
    for stack, values in figures.items():
        spread = f"{min(values):8.0f} {max(values):8.0f}"
        print(f"{stack[0]:<20} {stack[1]:<8} {statistics.median(values):8.0f} {spread}")


if __name__ == "__main__":
    asyncio.run(main())
