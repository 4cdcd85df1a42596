"""Rows about who asks: web pages of other origins, and clients that ask by Responses."""

from gateway_rows.table import Bench, Seen, row

PAGE = "https://app.example.org"
ORIGINS = {"BESSEMER_CORS_ORIGINS": PAGE}
"""What the server of the rows is started with."""


@row(28, "a page of a listed origin may ask, another may not")
def browsers(bench: Bench, seen: Seen) -> None:
    """Row 28: preflights without a key."""
    path = "/v1/chat/completions"
    allowed = bench.server.call("OPTIONS", path, key=None, Origin=PAGE, Access_Control_Request_Method="POST")
    names = {name.lower(): value for name, value in allowed.headers.items()}
    seen.check("listed", (allowed.status, names.get("access-control-allow-origin")) == (200, PAGE), allowed.status)
    evil = "https://evil.example.org"
    other = bench.server.call("OPTIONS", path, key=None, Origin=evil, Access_Control_Request_Method="POST")
    told = {name.lower() for name in other.headers}
    seen.check("another", "access-control-allow-origin" not in told, other.status)


@row(33, "a client that asks by Responses is answered, whole and streamed")
def responses(bench: Bench, seen: Seen) -> None:
    """Row 33: the AI SDK's default."""
    whole = bench.server.call("POST", "/v1/responses", {"model": "plain", "input": "Hi"})
    seen.check("whole", (whole.status, whole.body.get("status")) == (200, "completed"), whole.text)
    streamed = bench.server.call("POST", "/v1/responses", {"model": "plain", "input": "Hi", "stream": True})
    seen.check("streamed", "event: response.completed" in streamed.text, streamed.text[-200:])
