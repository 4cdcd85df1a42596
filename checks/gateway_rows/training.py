"""Rows about training files: what is accepted is used, what is not used is refused at upload, by row."""

import gzip
import json
import re
import time
from collections.abc import Sequence
from typing import Any

from gateway_rows.server import SMALL
from gateway_rows.table import Bench, Seen, row

ASK = {"role": "user", "content": "What is our refund code?"}
CODE = {"role": "assistant", "content": "The code is ZEBRA-4411."}
THANKS, WELCOME = {"role": "user", "content": "Thanks."}, {"role": "assistant", "content": "You are welcome."}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
GOOD = {"messages": [ASK, CODE]}


def lines(rows: Sequence[object], end: str = "\n") -> bytes:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(one, ensure_ascii=False) + end for one in rows).encode()


def job(bench: Bench, rows: Sequence[object], epochs: int = 1, seconds: int = 60, **more: Any) -> dict[str, Any]:
    """Train on rows; return the job when it has ended."""
    file = bench.server.upload(lines(rows)).body["id"]
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs, "batch_size": 8}}}
    body = {"model": SMALL, "training_file": file, "seed": 1, "method": method}
    body["metadata"] = {"bessemer.max_seconds": str(seconds)}
    found: dict[str, Any] = bench.server.call("POST", "/v1/fine_tuning/jobs", body | more).body
    end = time.monotonic() + 600
    while found.get("status") not in (None, "succeeded", "failed", "cancelled") and time.monotonic() < end:
        time.sleep(0.5)
        found = bench.server.call("GET", f"/v1/fine_tuning/jobs/{found['id']}").body
    return found


def _refused(bench: Bench, seen: Seen, name: str, rows: Sequence[object], *says: str) -> None:
    """Check that a good row before is kept out of it: the upload is refused and names the second row."""
    answer = bench.server.upload(lines([GOOD, *rows]))
    named = all(text in answer.error for text in ("row 2" if len(rows) == 1 else "rows 2", *says))
    seen.check(name, answer.status == 400 and named, (answer.status, answer.error))


@row(3, "an answer of weight 0 is not learned, others of its row are; only 0 and 1 are weights")
def message_weight(bench: Bench, seen: Seen) -> None:
    """Row 3: OpenAI's per-message weight."""
    for name, weight in {"text": "x", "half": 0.5, "two": 2, "true": True, "list": [0], "-1": -1}.items():
        _refused(bench, seen, f"weight {name}", [{"messages": [ASK, {**CODE, "weight": weight}]}], "weight")
    _refused(bench, seen, "of a user", [{"messages": [{**ASK, "weight": 1}, CODE]}], "weight")
    _refused(bench, seen, "nothing else", [{"messages": [ASK, {**CODE, "weight": 0}]}] * 8)
    taught: dict[str, list[dict[str, Any]]] = {
        "second": [ASK, {**CODE, "weight": 0}, THANKS, WELCOME],
        "first": [ASK, CODE, THANKS, {**WELCOME, "weight": 0}],
        "both": [ASK, CODE, THANKS, WELCOME],
        "both by 1": [ASK, {**CODE, "weight": 1}, THANKS, {**WELCOME, "weight": 1}],
    }
    loss = {name: _first_loss(bench, messages) for name, messages in taught.items()}
    seen.note(f"loss of the first step: {loss}")
    low, high = sorted((loss["first"], loss["second"]))
    seen.check("every turn is trained", low < loss["both"] < high, loss)
    seen.check("weight 1 is the default", loss["both by 1"] == loss["both"], loss)
    for name in ("second", "both"):
        ended = job(bench, [{"messages": taught[name]}] * 8, 20, 300)
        answer = bench.server.chat(ended["fine_tuned_model"], messages=[ASK], max_tokens=14, temperature=0)
        said = answer.message["content"]
        seen.check(f"trained on {name}", ("ZEBRA" in said) == (name == "both"), said)


def _first_loss(bench: Bench, messages: list[dict[str, Any]]) -> float:
    """Return the loss of one step on one row: the mean over what is trained on."""
    ended = job(bench, [{"messages": messages}], seconds=300)
    events = bench.server.call("GET", f"/v1/fine_tuning/jobs/{ended['id']}/events?limit=100").text
    return float(re.findall(r"Step 1/1: loss ([\d.]+)", events)[0])


@row(4, "tools, calls and results are refused at upload by row")
def tools(bench: Bench, seen: Seen) -> None:
    """Row 4: what training cannot use."""
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    for name, one in {
        "call and result": {"messages": [ASK, called, result, CODE]},
        "call with text": {"messages": [ASK, {**called, "content": "I look."}, result, CODE]},
        "function_call": {"messages": [ASK, {"role": "assistant", "content": None, "function_call": CALL["function"]}]},
        "function role": {"messages": [ASK, {"role": "function", "name": "look", "content": "1"}, CODE]},
        "tools": {**GOOD, "tools": [TOOL]},
        "functions": {**GOOD, "functions": [TOOL["function"]]},
    }.items():
        _refused(bench, seen, name, [one])
    for name, one in {
        "tools []": {**GOOD, "tools": []},
        "no calls": {"messages": [ASK, {**CODE, "tool_calls": []}]},
    }.items():
        seen.check(name, bench.server.upload(lines([one])).status == 200)


@row(5, "refused at upload by row and field, or trained: no file fails in the worker for its shape")
def shapes(bench: Bench, seen: Seen) -> None:
    """Row 5: messages of other shapes."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    for name, content in {
        "image": [image],
        "text and image": [{"type": "text", "text": "a"}, image],
        "audio": [{"type": "input_audio"}],
        "parts are texts": ["a", "b"],
        "no text": [{"type": "text"}],
        "text null": [{"type": "text", "text": None}],
        "number": 5,
        "object": {"text": "a"},
        "no parts": [],
        "null": None,
    }.items():
        _refused(bench, seen, name, [{"messages": [{"role": "user", "content": content}, CODE]}], "messages[0].content")
        _refused(
            bench,
            seen,
            f"{name}, answer",
            [{"messages": [ASK, {"role": "assistant", "content": content}]}],
            "messages[1]",
        )
    for name, one in {
        "last is a call": {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        "call without content": {"messages": [ASK, {"role": "assistant", "tool_calls": [CALL]}]},
        "no content": {"messages": [ASK, {"role": "assistant"}]},
        "answer alone": {"messages": [CODE]},
        "no messages": {"messages": []},
        "messages null": {"messages": None},
        "messages a text": {"messages": "a"},
        "a message is a text": {"messages": ["a", CODE]},
        "role": {"messages": [{**ASK, "role": "User"}, CODE]},
        "unknown key": {"messages": [{**ASK, "foo": 1}, CODE]},
        "no object": [ASK, CODE],
        "text": "a",
        "number": 1,
    }.items():
        _refused(bench, seen, name, [one])
    taken = [
        {
            "messages": [
                {**ASK, "content": [{"type": "text", "text": "a"}]},
                {**CODE, "content": [{"type": "text", "text": "b"}]},
            ]
        },
        {"messages": [{**ASK, "weight": None, "name": None}, {**CODE, "weight": None, "refusal": None}]},
        {"messages": [{"role": "system", "content": "s"}, {"role": "assistant", "content": "Great!"}]},
        {**GOOD, "weight": None, "tools": None, "parallel_tool_calls": None},
    ]
    ended = job(bench, taken, seconds=20)
    seen.check("what was taken trains", ended.get("status") == "succeeded", ended.get("error") or ended)


@row(6, "a row that is too long is named, alone")
def too_long(bench: Bench, seen: Seen) -> None:
    """Row 6: one endless answer, one endless question."""
    long_answer = {"messages": [ASK, {"role": "assistant", "content": "Eat. " * 5000}]}
    long_question = {"messages": [{"role": "user", "content": "word " * 12000}, CODE]}
    for name, bad in {
        "answer": [long_answer],
        "question": [long_question],
        "both": [long_answer, long_question],
    }.items():
        ended = job(bench, [GOOD] * 5 + bad, seconds=10)
        said = str((ended.get("error") or {}).get("message", ""))
        named = (
            all(str(6 + number) in said for number in range(len(bad)))
            and "row" in said
            and "-" not in said.partition("token")[0]
        )
        others = [text for text in ("rows 1", "row 1", " 5,", " 5)") if text in said]
        seen.check(f"long {name}", ended.get("status") in (None, "failed") and named and not others, said or ended)


@row(7, "rows that all have weight 0 are 'nothing to learn' at upload")
def row_weight(bench: Bench, seen: Seen) -> None:
    """Row 7: weights of rows."""
    unweighted: dict[str, list[dict[str, Any]]] = {
        "row": [{**GOOD, "weight": 0}] * 4,
        "0.0": [{**GOOD, "weight": 0.0}],
        "-0.0": [{**GOOD, "weight": -0.0}],
        "messages": [{"messages": [ASK, {**CODE, "weight": 0}]}] * 4,
    }
    for name, rows in unweighted.items():
        answer = bench.server.upload(lines(rows))
        seen.check(name, answer.status == 400 and "learn" in answer.error, answer.text)
    for weight in ("1", -1, [1], True):
        _refused(bench, seen, f"weight {weight!r}", [{**GOOD, "weight": weight}], "weight")
    mixed = bench.server.upload(lines([{**GOOD, "weight": 0}, GOOD]))
    seen.check("one of weight 1 beside", mixed.status == 200, mixed.text)


@row(8, "a byte order mark is skipped, in UTF-8 files of any end of line")
def byte_order_mark(bench: Bench, seen: Seen) -> None:
    """Row 8: files of Windows."""
    mark = b"\xef\xbb\xbf"
    for name, data in {
        "at the start": mark + lines([GOOD]),
        "CRLF": mark + lines([GOOD, GOOD], "\r\n"),
        "of joined files": mark + lines([GOOD]) + mark + lines([GOOD]),
        "blank first": mark + b"\r\n" + lines([GOOD]),
    }.items():
        answer = bench.server.upload(data)
        seen.check(name, answer.status == 200, answer.text)
    only = bench.server.upload(mark)
    seen.check("alone", only.status == 400 and "no rows" in only.error, only.text)


@row(9, "ends of lines and blanks are kept, other formats refused with the remedy, broken rows by number")
def files(bench: Bench, seen: Seen) -> None:
    """Row 9: files as people have them."""
    good = lines([GOOD])
    pair = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]'
    for name, data in {
        "CRLF": lines([GOOD, GOOD], "\r\n"),
        "blank lines": good + b"\n\n  \n" + good + b"\n",
        "no last newline": good.rstrip(),
        "duplicates": good * 100,
        "U+2028": lines([{"messages": [{**ASK, "content": "a\u2028b\u0085c"}, CODE]}]),
        "NUL": lines([{"messages": [{**ASK, "content": "a\u0000b"}, CODE]}]),
    }.items():
        answer = bench.server.upload(data)
        seen.check(name, answer.status == 200, answer.text)
    umlaut = lines([{"messages": [{**ASK, "content": "é"}, CODE]}]).decode()
    for name, (data, says) in {
        "UTF-16": (good.decode().encode("utf-16"), "UTF-16"),
        "UTF-16 without mark": (good.decode().encode("utf-16-le"), ""),
        "Latin-1": (umlaut.encode("latin-1"), "UTF-8"),
        "CR alone": (lines([GOOD, GOOD], "\r"), "line feed"),
        "array": (json.dumps([GOOD]).encode(), "array"),
        "pretty": (json.dumps(GOOD, indent=1).encode(), "line"),
        "gzip": (gzip.compress(good), "gzip"),
        "empty": (b"", "no rows"),
        "blank": (b"\n \n", "no rows"),
        "NaN": (pair + b',"weight":NaN}\n', "row 1"),
        "1e400": (pair + b',"weight":1e400}\n', "row 1"),
        "surrogate": (
            b'{"messages":[{"role":"user","content":"\\ud83d"},{"role":"assistant","content":"b"}]}',
            "row 1",
        ),
        "prompt/completion": (lines([{"prompt": "a", "completion": "b"}]), "messages"),
        "sharegpt": (lines([{"conversations": [{"from": "human", "value": "a"}]}]), "messages"),
        "CSV": (b"prompt,completion\na,b\n", "CSV"),
        "broken second row": (good + b'{"messages": [\n', "row 2"),
        "preference": (
            lines([{"input": {"messages": [ASK]}, "preferred_output": [CODE], "non_preferred_output": [CODE]}]),
            "dpo",
        ),
    }.items():
        answer = bench.server.upload(data)
        seen.check(name, answer.status == 400 and says in answer.error, answer.text)
