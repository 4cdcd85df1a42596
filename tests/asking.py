"""Plain HTTP requests to a running server: any method, path, key and body, and what came back as it is."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.live import Server


def ask(
    server: Server,
    method: str,
    path: str,
    key: str | None,
    body: bytes | None = None,
    kind: str = "application/json",
    headers: dict[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    """Return status, body (decoded when it is JSON) and headers."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    sent = {"content-type": kind} | ({"authorization": f"Bearer {key}"} if key else {}) | (headers or {})
    connection.request(method, path, body, sent)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    value = json.loads(content) if response.headers["content-type"] == "application/json" else content
    return response.status, value, dict(response.headers)


def key_of(server: Server, role: str, **more: Any) -> str:
    """Make a key of a role and return it."""
    body = {"name": role, "role": role} | more
    status, answer, _ = ask(server, "POST", "/v1/keys", server.key, json.dumps(body).encode())
    assert status == 200, answer
    key: str = answer["key"]
    return key


def upload(server: Server, key: str, *rows: dict[str, Any]) -> str:
    """Upload a training file and return its id."""
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    form = (
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    status, answer, _ = ask(server, "POST", "/v1/files", key, form, "multipart/form-data; boundary=x")
    assert status == 200, answer
    file_id: str = answer["id"]
    return file_id


def chat(server: Server, key: str, text: str, **more: Any) -> str:
    """Ask the route `assistant` and return the inference's id."""
    body = {"model": "assistant", "messages": [{"role": "user", "content": text}]} | more
    status, answer, _ = ask(server, "POST", "/v1/chat/completions", key, json.dumps(body).encode())
    assert status == 200, answer
    inference_id: str = answer["bessemer"]["inference_id"]
    return inference_id
