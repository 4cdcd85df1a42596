"""Rows about secrets in logs, and requests that could stall or mislead."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway_rows.server import SMALL, UPSTREAM_KEY, Answer, Server, configuration
from gateway_rows.table import Bench, Seen, row

CHAT = "/v1/chat/completions"


@row(1, "no key and no prompt in the log, whatever a request ends in")
def logs(bench: Bench, seen: Seen) -> None:
    """Row 1: canaries in headers, bodies and keys."""
    server, canary = bench.server, "canary-words-of-a-prompt-7781"
    guest = server.call("POST", "/v1/keys", {"name": "guest", "role": "inference"}).body["key"]
    for more in (
        {"model": SMALL, "logit_bias": {"²": 1}},
        {"model": "null-logprob", "logprobs": True},
        {"model": "float-usage"},
        {"model": "html", "stream": True},
        {"model": canary},
        {"model": SMALL, "response_format": {"type": canary}},
        {"model": SMALL, "structured_outputs": {"regex": f"[{canary}"}},
        {"model": SMALL, canary: 1},
        {"model": "weird"},
        {"model": "fastapi-422", "user": canary, "metadata": {canary: canary}},
    ):
        answer = server.chat(content=canary, key=guest, **more)
        seen.check(f"{list(more)} is no 500", answer.status != 500, answer.text)
    server.call("GET", f"/v1/{canary}?{canary}=1", key=guest)
    server.call("POST", "/v1/feedback", {"inference_id": canary, "metric": "comment", "value": canary}, guest)
    server.call("POST", CHAT, b"{" + canary.encode(), guest)
    server.call("POST", CHAT, {}, key=canary)
    server.upload(canary.encode())
    source = f"def grade(sample, item):\n    raise ValueError('{canary}' + item['a'])"
    body = {"grader": {"type": "python", "name": "g", "source": source}, "model_sample": canary, "item": {"a": canary}}
    server.call("POST", "/v1/fine_tuning/alpha/graders/run", body, guest)
    server.call("POST", "/v1/fine_tuning/alpha/graders/run", body)
    time.sleep(0.3)
    log = server.logged()
    for name, secret in {"guest's key": guest, "owner's key": server.key, "upstream's key": UPSTREAM_KEY}.items():
        seen.check(f"{name} in the log", secret not in log)
    held = [line[:200] for line in log.splitlines() if canary in line and f"/v1/{canary}" not in line]
    seen.check("the prompt in the log", not held, held[:1])


@row(2, "a key is trimmed, or refused at start by its variable's name; it never stands in the log")
def operators_key(bench: Bench, seen: Seen) -> None:
    """Row 2: keys out of files and secrets."""
    config = configuration(bench.upstream, bench.cases, models=False)
    for number, (name, key, starts) in enumerate(
        (
            ("CR", "sk-made-up-9921\r", True),
            ("LF", "sk-made-up-9921\n", True),
            ("CRLF", "sk-made-up-9921\r\n", True),
            ("padded", " sk-made-up-9921\t", True),
            ("no-break space", "sk-made-up-9921\u00a0", None),
            ("dash", "sk-ma–de-up-9921", False),
            ("quoted", '"sk-made-up-9921"', False),
            ("single quotes", "'sk-made-up-9921'", False),
            ("inside", "sk-made\nup-9921", False),
            ("empty", "", False),
            ("blank", "  ", False),
            ("Bearer", "Bearer sk-made-up-9921", False),
            ("byte order mark", "\ufeffsk-made-up-9921", None),
        )
    ):
        server = Server(bench.folder / f"key-{number}", config, UPSTREAM_KEY=key)
        try:
            ready = server.ready(60)
            if ready:
                answer = server.chat("keyed")
                seen.check(f"{name} answers", answer.status == 200, answer.text)
                sent = bench.upstream.last()["headers"]["authorization"]
                seen.check(f"{name} is trimmed", sent == "Bearer sk-made-up-9921", "another header")
            else:
                named = "UPSTREAM_KEY" in server.logged() and server.process.returncode == 2
                seen.check(f"{name} is refused by name", named, server.logged()[-300:])
            seen.check(f"{name} starts", starts is None or ready is starts, ready)
        finally:
            server.close()
        seen.check(f"{name} in the log", "9921" not in server.logged())


@contextmanager
def watched(bench: Bench, found: dict[str, float]) -> Iterator[None]:
    """Note the longest time that somebody else's /healthz and chat with an upstream take meanwhile."""
    stop = threading.Event()

    def watch(name: str, ask: Callable[[], Answer]) -> None:
        while not stop.is_set():
            begun = time.monotonic()
            status = ask().status
            found[name] = max(found.get(name, 0), time.monotonic() - begun if status == 200 else 99)
            time.sleep(0.02)

    threads = [
        threading.Thread(target=watch, args=("healthz", lambda: bench.server.call("GET", "/healthz", key=None))),
        threading.Thread(target=watch, args=("chat", lambda: bench.server.chat("plain"))),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


STALL = 1.0
"""Seconds that another request may take meanwhile: generous, the machine may be busy; the faults took 5 to 22."""


@row(15, "a label that is too long is a 400 at once, nobody waits")
def long_choice(bench: Bench, seen: Seen) -> None:
    """Row 15: labels of choices."""
    found: dict[str, float] = {}
    words = "word " * 200_000
    with watched(bench, found):
        for name, choice in {
            "200 kB": [words[:200_000], "y"],
            "1 MB": [words, "y"],
            "no spaces": ["x" * 200_000, "y"],
            "many": [f"label {number}" for number in range(50_000)],
            "alike": ["word " * 399 + str(n) for n in range(100)],
        }.items():
            begun = time.monotonic()
            answer = bench.server.chat(structured_outputs={"choice": choice})
            took = time.monotonic() - begun
            seen.check(name, answer.status == 400 and took < STALL, (answer.status, took, answer.error))
    seen.check("others", max(found.values()) < STALL, found)
    seen.note(f"others waited at most {max(found.values()):.2f} s")


@row(16, "a prompt of MiB is a 400 soon, /healthz and others go on")
def long_prompt(bench: Bench, seen: Seen) -> None:
    """Row 16: long prompts for the built-in engine."""
    found: dict[str, float] = {}
    bench.server.call("PUT", "/v1/routes/asked", {"targets": [{"model": SMALL, "prompt": "ask"}]})
    with watched(bench, found):
        for mib in (1, 8, 15):
            text = "word " * (mib * 2**20 // 5)
            answer = bench.server.chat(content=text)
            seen.check(f"{mib} MiB", answer.status == 400, answer.text)
            answer = bench.server.chat(content=[{"type": "text", "text": "word "}] * (mib * 10_000))
            seen.check(f"{mib * 10_000} parts", answer.status == 400, answer.text)
            answer = bench.server.chat("asked", messages=[], bessemer={"input": {"text": text}})
            seen.check(f"{mib} MiB of structured input", answer.status == 400, answer.text)
    seen.check("others", max(found.values()) < STALL, found)
    seen.note(f"others waited at most {max(found.values()):.2f} s")


def _schema(schema: object) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


def _nested(depth: int) -> dict[str, Any]:
    nest: dict[str, Any] = {"type": "object", "properties": {}}
    for _ in range(depth):
        nest = {"type": "object", "properties": {"a": nest}, "required": ["a"]}
    return nest


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    **{
        f"regex {text}": {"structured_outputs": {"regex": text}}
        for text in ("[", "(?=a)a", r"(a)\1", "[^\\s\\S]", "(a{1000}){1000}")
    },
    **{
        f"grammar {text}": {"structured_outputs": {"grammar": text}}
        for text in ("hello", "start: start", "start: a\na: b\nb: a", "start: x")
    },
    "self reference": _schema({"$ref": "#"}),
    "dangling": _schema({"$ref": "#/$defs/x"}),
    "remote": _schema({"$ref": "https://example.org/s"}),
    "unknown type": _schema({"type": "objekt"}),
    "nothing": _schema({"not": {}}),
    "false": _schema(False),
    "empty enum": _schema({"enum": []}),
    "two kinds": {"structured_outputs": {"choice": ["a"], "regex": "a"}},
    "no schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
    "no choices": {"structured_outputs": {"choice": []}},
    "crossed bounds": _schema(
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 3, "maxLength": 1}}, "required": ["a"]}
    ),
    "50,000 values": _schema({"type": "object", "properties": {"a": {"enum": [f"v{n}" for n in range(50_000)]}}}),
    "deep": _schema(_nested(300)),
}
EITHER: dict[str, dict[str, Any]] = {
    "regex ((a*)*)*b": {"structured_outputs": {"regex": "((a*)*)*b"}},
    "regex .{100000}": {"structured_outputs": {"regex": ".{100000}"}},
    "left recursion": {"structured_outputs": {"grammar": 'start: start "a" | "a"'}},
    "list of types": _schema({"type": ["object", "null"]}),
    "10^9 items": _schema({"type": "array", "items": {"type": "string"}, "minItems": 10**9}),
    "anything": _schema({}),
    "recursive": _schema(
        {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#"}}}, "required": ["c"]}
    ),
}


@row(31, "what no text satisfies is a 400 in a sentence, never a 500; others go on")
def constraints(bench: Bench, seen: Seen) -> None:
    """Row 31: schemas, expressions and grammars."""
    found: dict[str, float] = {}
    slowest, begun = ("", 0.0), 0.0
    with watched(bench, found):
        for name, more in (IMPOSSIBLE | EITHER).items():
            for stream in (False, True):
                begun = time.monotonic()
                answer = bench.server.chat(stream=stream, max_tokens=8, temperature=0, **more)
                slowest = max(slowest, (name, time.monotonic() - begun), key=lambda pair: pair[1])
                right = answer.status == 400 or (answer.status == 200 and name in EITHER)
                short = len(answer.error) < 600 and "\n" not in answer.error
                seen.check(f"{name} stream={stream}", right and short, (answer.status, answer.text))
    seen.check("others", max(found.values()) < STALL, found)
    seen.note(f"slowest: {slowest[0]} {slowest[1]:.2f} s; others waited at most {max(found.values()):.2f} s")
    seen.check("alive", bench.server.chat().status == 200)


@row(34, "a base URL without /v1, with two, with // or a slash at the end works or gets a hint")
def base_urls(bench: Bench, seen: Seen) -> None:
    """Row 34: URLs as clients make them."""
    server, body = bench.server, {"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}
    for path in (
        "/chat/completions",
        "/v1/v1/chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/api/v1/chat/completions",
        "/openai/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/v1/models",
        "/models",
        "/v1/models/",
        "/v1/files/",
    ):
        answer = server.call(
            "GET" if path.rstrip("/").endswith(("models", "files")) else "POST", path, body if "chat" in path else None
        )
        hint = "/v1" in answer.error.partition(path)[2] or "slash" in answer.error
        seen.check(path, answer.status == 200 or (answer.status == 404 and hint), answer.text)
    seen.check("an upstream's base URL with a slash", server.chat("slash").status == 200)


@row(38, "413 and 415 name the right remedy")
def sizes(bench: Bench, seen: Seen) -> None:
    """Row 38: what is too large, and what is encoded."""
    server = bench.server
    head = f"POST {{}} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
    head += "Content-Type: {}\r\nContent-Length: {}\r\n\r\n"
    for path, kind, size, name in (
        (CHAT, "application/json", 17 << 20, "max_body_bytes"),
        (CHAT, "application/json", 1 << 40, "max_body_bytes"),
        ("/v1/feedback", "application/json", 17 << 20, "max_body_bytes"),
        ("/v1/files", "multipart/form-data; boundary=b", 600 << 20, "max_file_bytes"),
    ):
        got = server.raw(head.format(path, kind, size).encode() + b"x" * 65536, 3)
        seen.check(f"{path} of {size >> 20} MiB", b" 413 " in got and name.encode() in got, got[:300])
    chunk = b"%x\r\n" % (1 << 16) + b"x" * (1 << 16) + b"\r\n"
    chunked = head.replace("Content-Length: {}", "Transfer-Encoding: chunked").format(CHAT, "application/json")
    try:
        got = server.raw(chunked.encode() + chunk * 300, 3)
    except OSError as error:  # the server cuts what goes on sending
        got = type(error).__name__.encode()
    seen.check("chunked", b" 413 " in got, got[:200])
    body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    for encoding, data in {"gzip": gzip.compress(body), "br": body, "deflate": body, "x-gzip": body}.items():
        answer = server.call("POST", CHAT, data, Content_Encoding=encoding)
        seen.check(encoding, answer.status == 415 and encoding in answer.error, answer.text)
    seen.check("identity", server.call("POST", CHAT, body, Content_Encoding="identity").status == 200)
