"""Rows about what upstreams answer: each script of the mock upstream, whole, streamed and behind a fallback."""

import socket
import time
from typing import Any

from gateway_rows.table import Bench, Seen, row

THINKING = {"reason": ("because", "42", "stop"), "reason-cut": ("hmm", "", "length")}


@row(20, "first byte at once, reasoning passed on and recorded, its history taken")
def reasoning(bench: Bench, seen: Seen) -> None:
    """Row 20: reasoning of an upstream."""
    server = bench.server
    for name, (thought, said, finish) in THINKING.items():
        answer = server.chat(name)
        seen.check(
            f"{name} whole", answer.status == 200 and answer.message.get("reasoning_content") == thought, answer.text
        )
        kept = server.call("GET", f"/v1/inferences/{answer.headers['x-bessemer-inference-id']}").body
        seen.check(f"{name} recorded", kept["reasoning"] == thought, kept["reasoning"])
        streamed = server.stream(name)
        ends = [c["finish_reason"] for event in streamed.events for c in event["choices"] if c["finish_reason"]]
        seen.check(f"{name} streamed", streamed.said("reasoning_content") and streamed.done, streamed.text[-300:])
        seen.check(f"{name} text", (streamed.said(), ends) == (said, [finish]), (streamed.said(), ends))
    for field in ("reasoning_content", "reasoning"):
        told = {"role": "assistant", "content": "Yes", field: "hm"}
        messages = [{"role": "user", "content": "Hi"}, told, {"role": "user", "content": "And?"}]
        answer = server.chat("plain", messages=messages)
        seen.check(f"history with {field}", answer.status == 200, answer.text)
        sent = bench.upstream.last()["body"]["messages"][1]
        seen.check(f"{field} is not sent again", field not in sent, sent)
    first, thought_at = _first_byte(bench, "reason")
    seen.note(f"first byte after {first:.2f} s, first thought after {thought_at:.2f} s of 3 s")
    seen.check("first byte", first < 1.5 and thought_at < 1.5, first)


def _first_byte(bench: Bench, model: str) -> tuple[float, float]:
    """Return the seconds to a stream's first byte, and to its first piece of reasoning."""
    body = b'{"model":"%s","stream":true,"messages":[{"role":"user","content":"Hi"}]}' % model.encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bench.server.key}\r\n"
    head += f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    begun, got, first, thought = time.monotonic(), b"", 0.0, 0.0
    with socket.create_connection(("127.0.0.1", bench.server.port), 60) as connection:
        connection.sendall(head.encode() + body)
        while part := connection.recv(65536):
            got += part
            first = first or time.monotonic() - begun
            if b"reasoning_content" in got:
                thought = thought or time.monotonic() - begun
    return first, thought


@row(21, "a refusal is a refusal, whole, streamed, in a route and in the record")
def refusal(bench: Bench, seen: Seen) -> None:
    """Row 21: an upstream's refusal."""
    server = bench.server
    answer = server.chat("refusal")
    message = answer.message
    seen.check("whole", message["content"] is None and message["refusal"] == "I cannot help.", message)
    kept = server.call("GET", f"/v1/inferences/{answer.headers['x-bessemer-inference-id']}").body
    seen.check("recorded", kept["refusal"] == "I cannot help.", kept["refusal"])
    streamed = server.stream("refusal")
    seen.check(
        "streamed", streamed.said("refusal") == "I cannot help." or "help." in streamed.said("refusal"), streamed.text
    )
    seen.check("streamed text", streamed.said() == "" and streamed.done, streamed.said())
    server.call("PUT", "/v1/routes/refusing", {"targets": ["refusal"], "fallbacks": ["plain"]})
    seen.check("behind a route", server.chat("refusing").message["refusal"] == "I cannot help.")
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    parsed = server.chat("refusal", response_format=schema)
    seen.check("structured", parsed.message["refusal"] == "I cannot help.", parsed.text)
    told = {"role": "assistant", "content": None, "refusal": "I cannot help."}
    messages = [{"role": "user", "content": "Hi"}, told, {"role": "user", "content": "Why?"}]
    seen.check("its history", server.chat("plain", messages=messages).status == 200)


def _served(bench: Bench, seen: Seen, name: str, text: str, **more: Any) -> None:
    """Check that a script's answer arrives whole and streamed, and is the first target's in a route."""
    server = bench.server
    whole = server.chat(name, **more)
    seen.check(f"{name} whole", whole.status == 200 and whole.message["content"] == text, whole.text)
    streamed = server.stream(name, **more)
    broken = [event for event in streamed.events if "error" in event] if streamed.status == 200 else [streamed.text]
    seen.check(f"{name} streamed", streamed.status == 200 and streamed.said() == text, streamed.text)
    seen.check(f"{name} ends", streamed.done and not broken, broken)
    server.call("PUT", f"/v1/routes/first-{name}", {"targets": [name], "fallbacks": ["plain"]})
    routed = server.chat(f"first-{name}", **more)
    seen.check(f"{name} in a route", routed.status == 200 and routed.message["content"] == text, routed.text)


@row(22, "text parts are joined, thinking parts are reasoning")
def parts(bench: Bench, seen: Seen) -> None:
    """Row 22: content as a list."""
    _served(bench, seen, "parts", "42")
    seen.check("thinking", bench.server.chat("parts").message.get("reasoning_content") == "hm")


@row(23, "JSON for a stream and a stream for JSON are served")
def wrong_kind(bench: Bench, seen: Seen) -> None:
    """Row 23: an upstream that ignores `stream`."""
    _served(bench, seen, "ignores-stream", "Hello")
    _served(bench, seen, "always-stream", "Hello")


@row(24, "null log-probabilities, usage as text, null choices: tolerated")
def odd_fields(bench: Bench, seen: Seen) -> None:
    """Row 24: odd but real fields."""
    _served(bench, seen, "null-logprob", "a", logprobs=True)
    _served(bench, seen, "old-logprobs", "a", logprobs=True)
    _served(bench, seen, "float-usage", "Hello")
    _served(bench, seen, "null-choices", "Hello")
    usage = bench.server.chat("float-usage").body["usage"]
    seen.check("counts", (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 3), usage)


@row(25, "a reason in the error, a fallback where another try may help, never 500 or 'None'")
def reasons(bench: Bench, seen: Seen) -> None:
    """Row 25: errors of upstreams."""
    server = bench.server
    for name, status, falls in (
        ("fastapi-422", 400, False),
        ("redirect", 502, True),
        ("html", 502, True),
        ("error-string", 502, True),
    ):
        server.call("PUT", f"/v1/routes/after-{name}", {"targets": [name], "fallbacks": ["plain"]})
        for stream in (False, True):
            answer = server.chat(name, stream=stream)
            told = answer.status == status and answer.error and not answer.error.endswith("None")
            seen.check(f"{name} stream={stream}", told, answer.text)
            after = server.chat(f"after-{name}", stream=stream)
            seen.check(f"{name} fallback stream={stream}", (after.status == 200) is falls, after.text)
    seen.note(server.chat("fastapi-422").error)


@row(26, "429 with the upstream's Retry-After, whole and streamed; a fallback is asked")
def retry_after(bench: Bench, seen: Seen) -> None:
    """Row 26: Retry-After."""
    server = bench.server
    for stream in (False, True):
        answer = server.chat("retry-after", stream=stream)
        right = answer.status == 429 and answer.headers.get("retry-after") == "37"
        seen.check(f"stream={stream}", right, (answer.status, answer.headers))
    server.call("PUT", "/v1/routes/limited", {"targets": ["retry-after"]})
    answer = server.chat("limited")
    seen.check("a route", answer.status == 429 and answer.headers.get("retry-after") == "37", answer.headers)
    server.call("PUT", "/v1/routes/limited-2", {"targets": ["retry-after"], "fallbacks": ["plain"]})
    seen.check("a fallback", server.chat("limited-2").status == 200)


@row(32, "without usage of the upstream no usage chunk, and null in a whole answer")
def no_usage(bench: Bench, seen: Seen) -> None:
    """Row 32: the usage chunk."""
    streamed = bench.server.stream("no-usage")
    chunks = [event for event in streamed.events if not event["choices"]]
    seen.check("no chunk without choices", not chunks and streamed.said() == "Hello", chunks)
    with_usage = [event for event in bench.server.stream("plain").events if not event["choices"]]
    seen.check("one with usage", [event["usage"]["total_tokens"] for event in with_usage] == [8], with_usage)
    whole = bench.server.chat("no-usage").body
    seen.check("whole", whole.get("usage") is None and "cost_usd" not in whole["bessemer"], whole)
    kept = bench.server.call("GET", f"/v1/inferences/{whole['bessemer']['inference_id']}").body
    seen.check("recorded as unknown", kept["input_tokens"] is None and kept["cost_usd"] is None, kept)


@row(35, "U+2028, U+0085 and vertical tab pass unchanged")
def separators(bench: Bench, seen: Seen) -> None:
    """Row 35: line separators of Unicode."""
    seen.check("whole", bench.server.chat("u2028").message["content"] == "a\u2028b\u0085c")
    streamed = bench.server.stream("u2028")
    seen.check("streamed", streamed.said() == "a\u2028b\u0085c\u000bd" and streamed.done, streamed.text)


@row(36, "a lone surrogate is a 400 that says so; halves of an upstream's emoji are joined")
def surrogates(bench: Bench, seen: Seen) -> None:
    """Row 36: cut emoji."""
    server = bench.server
    for text in (b"cut \\ud83d", b"\\ude00 alone", b"\\ud83d\\ud83d"):
        body = b'{"model":"plain","messages":[{"role":"user","content":"%s"}]}' % text
        answer = server.call("POST", "/v1/chat/completions", body)
        seen.check(text.decode(), answer.status == 400 and "surrogate" in answer.error, answer.text)
        field = b'{"metric":"comment","inference_id":"inf-0","value":"%s"}' % text
        answer = server.call("POST", "/v1/feedback", field)
        seen.check(f"{text.decode()} in feedback", answer.status == 400 and "surrogate" in answer.error, answer.text)
    seen.check("whole", server.chat("split-emoji").message["content"] == "hi 😀")
    streamed = server.stream("split-emoji")
    seen.check("streamed", streamed.said() == "hi 😀" and streamed.done, streamed.text)


@row(39, "comments, ids, CRLF, lone CR, BOM, no [DONE], empty finish reasons: the text arrives whole")
def framing(bench: Bench, seen: Seen) -> None:
    """Row 39: framing of server-sent events."""
    for name in ("keepalive", "crlf", "cr-only", "bom", "no-done", "empty-finish"):
        _served(bench, seen, name, "Hello")
