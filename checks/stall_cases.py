"""What one client may send to hold up the others: a body for each field of each endpoint, far above what is usual."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

MIB = 1 << 20
LARGEST = 16 * MIB - 4096
"""Bytes of a body that just passes `max_body_bytes`."""
CHAT = "/v1/chat/completions"
GRADE = "/v1/fine_tuning/alpha/graders/run"
VALIDATE = "/v1/fine_tuning/alpha/graders/validate"
JOBS = "/v1/fine_tuning/jobs"


class Sent(NamedTuple):
    """One hostile request."""

    path: str
    body: bytes
    method: str = "POST"
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


CASES: dict[str, Callable[[], Sent]] = {}
"""By name; made when they are sent, for together they have gigabytes."""


def _case(name: str, make: Callable[..., Sent], *arguments: Any) -> None:
    CASES[name] = partial(make, *arguments)


def _json(path: str, value: Any, *, method: str = "POST") -> Sent:
    return Sent(path, json.dumps(value, ensure_ascii=False).encode(), method)


def _chat(**fields: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"model": "upstream", "messages": [{"role": "user", "content": "hi"}], **fields}


def _raw_chat(field: str, value: bytes) -> Sent:
    return Sent(
        CHAT, b'{"model":"upstream","messages":[{"role":"user","content":"hi"}],"%s":%s}' % (field.encode(), value)
    )


def _message(content: bytes, more: bytes = b"") -> Sent:
    return Sent(CHAT, b'{"model":"upstream","messages":[{"role":"user","content":%s%s}]}' % (content, more))


def _filled(unit: bytes, size: int = LARGEST) -> bytes:
    return unit * (size // len(unit))


def _list(unit: bytes, count: int) -> bytes:
    return b"[" + b",".join([unit] * count) + b"]"


def _object(count: int, value: bytes = b"1") -> bytes:
    return b"{" + b",".join(b'"%d":%s' % (index, value) for index in range(count)) + b"}"


def _text(unit: bytes, size: int = LARGEST - 4096) -> bytes:
    return b'"' + _filled(unit, size) + b'"'


def _chat_cases() -> None:
    part = b'{"type":"text","text":"a"}'
    turn = b'{"role":"user","content":"hi"}'
    for name, unit in {
        "ascii": b"word ",
        "escapes": rb"\u00e9",
        "newlines": rb"\n",
        "emoji": "🙂".encode(),
        "escaped emoji": rb"\ud83d\ude42",
        "quotes": rb"\"",
        "braces": b"{[,",
    }.items():
        _case(f"chat: a text of 16 MB, {name}", lambda unit: _message(_text(unit)), unit)
    _case(
        "chat: a text that no one closes",
        lambda: Sent(CHAT, b'{"model":"upstream","messages":[{"content":"' + _filled(b"a")),
    )
    _case(
        "chat: an image of 10 MB",
        lambda: _message(
            b'[{"type":"image_url","image_url":{"url":"data:image/png;base64,'
            + _filled(b"iVBORw0K", 10 * MIB)
            + b'"}}]'
        ),
    )
    for count in (1_000, 10_000, 100_000, 450_000):
        _case(
            f"chat: {count} messages",
            lambda count: Sent(
                CHAT, b'{"model":"upstream","messages":%s}' % _list(turn, min(count, LARGEST // (len(turn) + 1)))
            ),
            count,
        )
    for count in (1_000, 10_000, 100_000, 200_000):
        _case(f"chat: {count} parts", lambda count: _message(_list(part, count)), count)
    for count in (1_000, 200_000, 499_000):
        _case(f"chat: {count} biases", lambda count: _raw_chat("logit_bias", _object(count)), count)
    for field in (
        "metadata",
        "response_format",
        "structured_outputs",
        "stop",
        "tools",
        "tool_choice",
        "unknown",
        "seed",
    ):
        _case(f"chat: {field}, 499,000 values", lambda field: _raw_chat(field, _object(499_000, b'"v"')), field)
    _case("chat: metadata of 12 MB", lambda: _raw_chat("metadata", b'{"a":%s}' % _text(b"word ", 12 * MIB)))
    _case("chat: tags of 12 MB", lambda: _raw_chat("bessemer", b'{"tags":{"a":%s}}' % _text(b"word ", 12 * MIB)))
    _case("chat: user of 12 MB", lambda: _raw_chat("user", _text(b"word ", 12 * MIB)))
    _case("chat: model of 12 MB", lambda: _raw_chat("model", _text(b"word ", 12 * MIB)))
    _case("chat: a name of a field of 12 MB", lambda: Sent(CHAT, b"{%s:1}" % _text(b"word ", 12 * MIB)))
    _case("chat: episode_id of 12 MB", lambda: _raw_chat("bessemer", b'{"episode_id":%s}' % _text(b"word", 12 * MIB)))
    _case("chat: input of 499,000 values", lambda: _raw_chat("bessemer", b'{"input":%s}' % _object(499_000)))
    _case("chat: input of lists", lambda: _raw_chat("bessemer", b'{"input":{"a":%s}}' % _list(b"[]", 249_000)))
    _case("chat: input of 12 MB", lambda: _raw_chat("bessemer", b'{"input":{"a":%s}}' % _text(b"word ", 12 * MIB)))
    _case("chat: stop of 12 MB", lambda: _raw_chat("stop", _text(b"word ", 12 * MIB)))
    _case("chat: a number of 12 MB", lambda: _raw_chat("seed", _filled(b"1", 12 * MIB)))
    _case("chat: a float of 12 MB", lambda: _raw_chat("temperature", b"0." + _filled(b"1", 12 * MIB)))
    _case("chat: spaces", lambda: Sent(CHAT, _filled(b" ")))
    _case("chat: commas", lambda: Sent(CHAT, _filled(b",")))
    _case("chat: quotes", lambda: Sent(CHAT, _filled(b'"')))
    _case("chat: backslashes", lambda: Sent(CHAT, _filled(b"\\")))
    _case("chat: brackets", lambda: Sent(CHAT, _filled(b"[")))
    _case("chat: brackets in pairs", lambda: Sent(CHAT, _filled(b"[]")))
    _case("chat: brackets in texts", lambda: _message(_list(b'"[{,"', 120_000)))
    _case("chat: 127 deep", lambda: _raw_chat("bessemer", b'{"input":{"a":%s}}' % (b"[" * 120 + b"]" * 120)))
    _case(
        "chat: deep and wide",
        lambda: _raw_chat("bessemer", b'{"input":{"a":%s}}' % _list(b"[" * 100 + b"]" * 100, 4_900)),
    )
    _case("chat: halves of characters", lambda: _message(_text(rb"\ud800")))
    _case("chat: not UTF-8", lambda: _message(_text(b"\xff")))
    schema = {
        "type": "object",
        "properties": {f"p{i}": {"type": "string", "pattern": "[a-z]{1,9}"} for i in range(50_000)},
    }
    _case(
        "chat: a schema of 50,000 properties",
        lambda: _json(
            CHAT, _chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})()
        ),
    )
    for field, value in {
        "choice": [f"label {i}" for i in range(400_000)],
        "regex": "(a|b)" * 2_000_000,
        "grammar": "start: " + " | ".join(f'"{i}"' for i in range(1_000_000)),
        "json": {"enum": [f"value {i}" for i in range(400_000)]},
    }.items():
        _case(
            f"chat: {field}", lambda field, value: _json(CHAT, _chat(structured_outputs={field: value})()), field, value
        )


def _similarity_cases() -> None:
    sample, reference = "{{sample.output_text}}", "{{item.r}}"
    for metric in ("fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_5", "rouge_l"):
        grader = {"type": "text_similarity", "input": sample, "reference": reference, "evaluation_metric": metric}
        for name, text in {
            "words": " ".join(str(index) for index in range(7_000))[:32_000],
            "one letter": ("a " * 16_000),
            "Han": "".join(chr(0x4E00 + index % 20_000) for index in range(32_000)),
            "marks": "," * 32_000,
        }.items():
            body = {"grader": grader, "model_sample": text, "item": {"r": text[7:]}}
            _case(f"run: {metric}, {name}", lambda body: _json(GRADE, body), body)
    gleu = {"type": "text_similarity", "input": sample, "reference": reference, "evaluation_metric": "gleu"}
    han = "".join(chr(0x4E00 + index % 20_000) for index in range(32_000))
    many = {
        "type": "multi",
        "graders": {f"g{i}": gleu | {"name": f"g{i}"} for i in range(16)},
        "calculate_output": "g1",
    }
    _case("run: sixteen of gleu", lambda: _json(GRADE, {"grader": many, "model_sample": han, "item": {"r": han[7:]}}))


def _sample_cases() -> None:
    sample = "{{sample.output_text}}"
    attributes = {"type": "attributes"}
    wide = json.dumps({str(i): [str(i), "b"] for i in range(45_000)})[: 1 << 20]
    flat = json.dumps({str(i): "b" for i in range(70_000)})
    _case(
        "run: attributes of 1 MB",
        lambda: _json(GRADE, {"grader": attributes, "model_sample": flat, "item": {"target": flat}}),
    )
    _case(
        "run: attributes, an item",
        lambda: _json(
            GRADE,
            {
                "grader": attributes,
                "model_sample": flat,
                "item": {"target": {str(i): [str(i)] for i in range(200_000)}},
            },
        ),
    )
    _case(
        "run: attributes, lists",
        lambda: _json(GRADE, {"grader": attributes, "model_sample": wide, "item": {"target": wide}}),
    )
    for name, text in {
        "lists": "[" + "[]," * 349_000 + "1]",
        "numbers": "[" + "1," * 524_000 + "1]",
        "deep": "[" * (1 << 20),
    }.items():
        for kind, grader in {
            "string_check": {"type": "string_check", "input": sample, "reference": "a", "operation": "ilike"},
            "feedback": {"type": "feedback", "labels": ["a", "b"]},
            "attributes": attributes,
            "python": {"type": "python", "source": "def grade(sample, item): return 1.0"},
        }.items():
            body = {"grader": grader, "model_sample": text, "item": {"target": "{}"}}
            _case(f"run: {kind}, a sample of {name}", lambda body: _json(GRADE, body), body)
    python = {"type": "python", "source": "def grade(sample, item): return 1.0"}
    _case(
        "run: python, an item of 499,000 values",
        lambda: Sent(
            GRADE,
            b'{"grader":%s,"model_sample":"a","item":{"a":%s}}' % (json.dumps(python).encode(), _list(b"1", 490_000)),
        ),
    )
    _case(
        "run: python, an item of 15 MB",
        lambda: _json(GRADE, {"grader": python, "model_sample": "a", "item": {"a": "é" * 7 * MIB}}),
    )


def _template_cases() -> None:
    check = {"type": "string_check", "operation": "like"}
    _case(
        "run: a template of 8 MB",
        lambda: _json(
            GRADE,
            {
                "grader": check | {"input": "{{item.a}} " * (8 * MIB // 11), "reference": "b"},
                "model_sample": "",
                "item": {"a": "b"},
            },
        ),
    )
    _case(
        "run: a template of placeholders of 1 MB",
        lambda: _json(
            GRADE,
            {
                "grader": check | {"input": "{{item.a}}" * 16, "reference": "b"},
                "model_sample": "",
                "item": {"a": "é" * MIB},
            },
        ),
    )
    _case(
        "run: like, two texts",
        lambda: _json(
            GRADE,
            {
                "grader": check | {"input": "{{item.a}}", "reference": "{{item.b}}"},
                "model_sample": "",
                "item": {"a": "a" * 7 * MIB, "b": "a" * 3 * MIB + "b" + "a" * 3 * MIB},
            },
        ),
    )
    _case(
        "run: ilike, two texts",
        lambda: _json(
            GRADE,
            {
                "grader": check | {"operation": "ilike", "input": "{{item.a}}", "reference": "{{item.b}}"},
                "model_sample": "",
                "item": {"a": "ß" * 3 * MIB, "b": "ß" * 2 * MIB},
            },
        ),
    )
    _case(
        "run: common words",
        lambda: _json(
            GRADE,
            {
                "grader": check | {"input": "{{common(item.a, item.b)}}", "reference": "b"},
                "model_sample": "",
                "item": {"a": "ab " * 2 * MIB, "b": "ab " * 2 * MIB},
            },
        ),
    )
    _case(
        "run: feedback, labels",
        lambda: _json(
            GRADE,
            {
                "grader": {"type": "feedback", "labels": [f"label {i}" for i in range(300_000)]},
                "model_sample": "a",
                "item": {},
            },
        ),
    )
    _case(
        "run: feedback, a long answer",
        lambda: _json(
            GRADE,
            {
                "grader": {"type": "feedback", "labels": ["a", "b"]},
                "model_sample": "not " * 260_000,
                "item": {"answer": "not " * 2_000_000, "verdict": False},
            },
        ),
    )


def _validate_cases() -> None:
    check = {"type": "string_check", "operation": "like"}
    long = "{{item." + "a" * 8 * MIB
    for name, text in {
        "a placeholder without end": long,
        "braces": "{" * 8 * MIB,
        "closing": "a}}" * 2 * MIB,
        "text": "word " * 3 * MIB,
        "full width": "｛" * 4 * MIB,
        "dollars": "$(item.a" * MIB,
    }.items():
        grader = check | {"input": text, "reference": "b"}
        _case(f"validate: {name}", lambda grader: _json(VALIDATE, {"grader": grader}), grader)
    _case("validate: a source", lambda: _json(VALIDATE, {"grader": {"type": "python", "source": "a" * 15 * MIB}}))
    _case(
        "validate: a formula",
        lambda: _json(
            VALIDATE,
            {
                "grader": {
                    "type": "multi",
                    "graders": {"a": check | {"input": "a", "reference": "b"}},
                    "calculate_output": "a+" * 6 * MIB + "a",
                }
            },
        ),
    )
    _case(
        "validate: graders",
        lambda: _json(
            VALIDATE,
            {"grader": {"type": "multi", "graders": {str(i): {} for i in range(240_000)}, "calculate_output": "a"}},
        ),
    )
    _case(
        "validate: a judge's input",
        lambda: _json(
            VALIDATE,
            {
                "grader": {
                    "type": "score_model",
                    "model": "upstream",
                    "input": [{"role": "user", "content": "word " * 3 * MIB}],
                    "range": [0, 1],
                }
            },
        ),
    )
    _case(
        "validate: a judge's messages",
        lambda: _json(
            VALIDATE,
            {
                "grader": {
                    "type": "score_model",
                    "model": "upstream",
                    "input": [{"role": "user", "content": "a"}] * 100_000,
                    "range": [0, 1],
                }
            },
        ),
    )


_PURPOSE = b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'


def _form(content: bytes, filename: bytes = b"rows.jsonl") -> Sent:
    head = _PURPOSE + b'--x\r\ncontent-disposition: form-data; name="file"; filename="'
    body = head + filename + b'"\r\n\r\n' + content + b"\r\n--x--\r\n"
    return Sent("/v1/files", body, content_type="multipart/form-data; boundary=x")


def _file_cases() -> None:
    row = b'{"messages":[{"role":"user","content":"%s"},{"role":"assistant","content":"b"}]}\n'
    _case("files: one row of 64 MB", lambda: _form(row % _filled(b"word ", 64 * MIB)))
    _case(
        "files: a row of 499,000 values",
        lambda: _form(b'{"messages":[{"role":"user","content":"a"}],"item":%s}\n' % _object(499_000) * 4),
    )
    _case(
        "files: a row of messages",
        lambda: _form(
            b'{"messages":[%s,{"role":"assistant","content":"b"}]}\n'
            % b",".join([b'{"role":"user","content":"a"}'] * 200_000)
        ),
    )
    _case("files: 300,000 rows", lambda: _form((row % b"a") * 300_000))
    _case("files: rows that are wrong", lambda: _form(b"{}\n" * 3_000_000))
    _case(
        "files: other faults",
        lambda: _form(b"".join(b'{"messages":[{"role":"user","content":"a","k%d":1}]}\n' % i for i in range(300_000))),
    )
    _case("files: empty lines", lambda: _form(b"\n" * 32 * MIB))
    _case("files: carriage returns", lambda: _form(b"\r" * 32 * MIB))
    _case("files: braces", lambda: _form(b"{" * 32 * MIB))
    _case("files: NUL", lambda: _form(b"\0" * 32 * MIB))
    _case("files: a name of 4 MB", lambda: _form(row % b"a", _filled(b"a", 4 * MIB)))
    _case("files: dashes", lambda: _form(b"\r\n--" * 8 * MIB))
    _case(
        "files: a purpose of 16 MB",
        lambda: Sent(
            "/v1/files",
            b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + _filled(b"a") + b"\r\n--x--\r\n",
            content_type="multipart/form-data; boundary=x",
        ),
    )
    _case(
        "files: many parts",
        lambda: Sent(
            "/v1/files",
            b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nb\r\n' * 200_000 + b"--x--\r\n",
            content_type="multipart/form-data; boundary=x",
        ),
    )
    _case(
        "files: headers of a part",
        lambda: Sent(
            "/v1/files",
            b"--x\r\n" + b"a: b\r\n" * 2_000_000 + b"\r\n",
            content_type="multipart/form-data; boundary=x",
        ),
    )


def _control_cases() -> None:
    wide, long = _object(499_000, b'"v"'), _text(b"word ", 15 * MIB)
    bodies = {
        "/v1/feedback": (
            b'{"inference_id":"inf-%032d","metric":"verdict","value":true,"tags":%s}',
            b'{"inference_id":"inf-%032d","metric":"comment","value":%s}',
        ),
        "/v1/datasets": (b'{"name":"d%d","tags":%s}', b'{"name":"d%d","route":%s}'),
        JOBS: (
            b'{"model":"upstream","training_file":"file-%d","metadata":%s}',
            b'{"model":"upstream","training_file":"file-%d","suffix":%s}',
            b'{"model":"upstream","training_file":"file-%d","integrations":[%s]}',
            b'{"model":"upstream","training_file":"file-%d","method":{"type":"dpo","dpo":%s}}',
            b'{"model":"upstream","training_file":"file-%d","method":{"type":"reinforcement","reinforcement":{"grader":%s}}}',
        ),
        "/v1/evaluations": (
            b'{"dataset":"d%d","systems":["upstream"],"grader":%s}',
            b'{"dataset":"d%d","systems":[%s]}',
            b'{"dataset":"d%d","systems":["upstream"],"labels":[%s]}',
        ),
        "/v1/cascades": (
            b'{"route":"r%d","small":"upstream","large":"upstream","dataset":"d","grader":%s}',
            b'{"route":%s}',
        ),
        "/v1/routes": (b'{"name":"r%d","targets":[%s]}', b'{"name":"r%d","targets":["upstream"],"reason":%s}'),
        "/v1/keys": (b'{"name":"k%d","models":[%s]}', b'{"name":%s}'),
        "/v1/plans": (b'{"name":"p%d","traffic":%s,"models":[]}', b'{"name":%s}'),
        "/v1/erasures": (b'{"route":"r%d","dry_run":true,"tags":%s}', b'{"inference_ids":[%s],"dry_run":true}'),
    }
    for path, templates in bodies.items():
        for template in templates:
            start, _, end = template.replace(b"inf-%032d", b"inf-" + b"0" * 32).replace(b"%d", b"1").partition(b"%s")
            name = (start.rpartition(b',"')[2] or start).strip(b'{"[:').decode().replace('"', "")
            for kind, value in {"wide": wide, "long": long, "many": b",".join([b'"upstream"'] * 490_000)}.items():
                if (kind == "many") is start.endswith(b"["):
                    _case(
                        f"{path}: {name}, {kind}",
                        lambda path, *parts: Sent(path, b"".join(parts)),
                        path,
                        start,
                        value,
                        end,
                    )
    _case("put a route", lambda: Sent("/v1/routes/r", b'{"targets":%s}' % _list(b'"upstream"', 400_000), "PUT"))
    for path in ("/v1/routes/r/rollback", "/v1/models/upstream/rollback", "/v1/versions/v/promote"):
        _case(f"{path}: a reason", lambda path: Sent(path, b'{"reason":%s}' % long), path)
    _case("get: a query of 60 kB", lambda: Sent("/v1/inferences?route=" + "a" * 60_000, b"", "GET"))
    _case(
        "get: a query of 4,000 parameters",
        lambda: Sent("/v1/fine_tuning/jobs?" + "&".join(f"metadata[{i}]=" for i in range(4_000)), b"", "GET"),
    )
    _case(
        "get: 6,000 headers",
        lambda: Sent("/v1/models", b"", "GET", headers=tuple((f"a{i}", "") for i in range(6_000))),
    )
    _case("get: a path of 60 kB", lambda: Sent("/v1/models/" + "a/" * 30_000, b"", "GET"))
    _case("get: a body of 16 MB", lambda: Sent("/v1/models", _filled(b"a"), "GET"))
    _case(
        "chat: a key of 60 kB",
        lambda: Sent("/v1/models", b"", "GET", headers=(("authorization", "Bearer " + "a" * 60_000),)),
    )


_chat_cases()
_similarity_cases()
_sample_cases()
_template_cases()
_validate_cases()
_file_cases()
_control_cases()
