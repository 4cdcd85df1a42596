"""The row about characters that databases cannot hold, on SQLite and on PostgreSQL."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway_rows.server import Server, configuration
from gateway_rows.table import Bench, Seen, row


@contextmanager
def _postgres(bench: Bench) -> Iterator[str | None]:
    """Yield a URL of a PostgreSQL: the one given, else one of its own; None where it does not run."""
    if bench.database_url is not None:
        yield bench.database_url
        return
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.store.postgres import Postgres, Unavailable

    try:
        server = Postgres()
    except Unavailable:
        yield None
        return
    try:
        yield server.url("postgres")
    finally:
        server.stop()


@row(37, "NUL and other characters are kept and read back, on SQLite and PostgreSQL")
def odd_characters(bench: Bench, seen: Seen) -> None:
    """Row 37: NUL in every text that a client sends."""
    _kept(bench.server, "SQLite", seen)
    with _postgres(bench) as url:
        if url is None:
            seen.note("PostgreSQL not tried: give --database-url")
            return
        config = configuration(bench.upstream, bench.cases)
        server = Server(bench.folder / "postgres", config, BESSEMER_DATABASE_URL=url)
        try:
            if server.ready():
                _kept(server, "PostgreSQL", seen)
            else:
                seen.check("PostgreSQL starts", False, server.logged()[-300:])
        finally:
            server.close()


def _kept(server: Server, where: str, seen: Seen) -> None:
    """Send each character in each place and read it back."""
    for name, text in {
        "NUL": "a\u0000b",
        "NUL alone": "\u0000",
        "last": "\uffff\U0010ffff",
        "escape": "\\u0000",
        "long": "x" * 100_000,
    }.items():
        sent = {text[:60]: text[:512]}  # OpenAI's limits of metadata
        answer = server.chat("plain", text, metadata=sent, user=text[:60])
        if answer.status != 200:
            seen.check(f"{where} {name}", False, answer.text)
            continue
        inference = answer.headers["x-bessemer-inference-id"]
        kept = server.call("GET", f"/v1/inferences/{inference}").body
        seen.check(f"{where} {name} content", kept["messages"][0]["content"] == text)
        seen.check(f"{where} {name} tags", kept["tags"] == sent and kept["user"] == text[:60], kept["tags"])
        for metric in ("comment", "demonstration"):
            said = {"inference_id": inference, "metric": metric, "value": text}
            status = server.call("POST", "/v1/feedback", said).status
            listed = server.call("GET", f"/v1/feedback?inference_id={inference}&metric={metric}").body["data"]
            seen.check(f"{where} {name} {metric}", status == 200 and [one["value"] for one in listed] == [text], listed)
    for path in (
        "inferences/inf-%00",
        "files/%00",
        "models/%00",
        "versions/%00",
        "routes/%00",
        "datasets/%00",
        "evaluations/%00",
        "plans/%00",
    ):
        answer = server.call("GET", f"/v1/{path}")
        seen.check(f"{where} {path}", answer.status in (400, 404), answer.text)
    for path in (
        "inferences?route",
        "inferences?episode_id",
        "inferences?after",
        "datasets?name",
        "feedback?metric",
        "usage?route",
        "audit?action",
        "versions?model",
    ):
        answer = server.call("GET", f"/v1/{path}=%00")
        seen.check(f"{where} {path}", answer.status in (200, 400), answer.text)
    named = server.chat("plain\u0000")
    seen.check(f"{where} model", named.status == 404, named.text)
