"""Answers of OpenAI's Responses: a response, or the server-sent events of a streamed one.

Output items stand in the order in which they began: thoughts, then what is said, then calls, for most models. Their
ids are made of the inference's, so that the events of a stream and its last one name the same items.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from bessemer.core.conversation import ToolCall
from bessemer.core.errors import BessemerError
from bessemer.core.openai_responses import ResponseObject, ResponseRequest, ResponseUsage
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece, ScoredToken, ToolCallPiece, Usage
from bessemer.core.types import JSON
from bessemer.dialects.openai_chat_answers import extension_of, scored_entries

_encode = msgspec.json.Encoder().encode
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is no whole one, by its finish reason."""
_THOUGHT, _MESSAGE = "thought", "message"


def response_of(request: ResponseRequest, reply: Reply, order: Sequence[str | int] = ()) -> ResponseObject:
    """Return a finished answer. `order`: of its items, where they came as a stream."""
    reason = _INCOMPLETE.get(reply.finish_reason)
    status = "completed" if reason is None else "incomplete"
    items: dict[str | int, JSON] = {}
    if reply.reasoning:
        items[_THOUGHT] = _thought(reply, reply.reasoning, status)
    if reply.text or reply.refusal or not reply.tool_calls:
        items[_MESSAGE] = _message(request, reply, status)
    items |= {place: _call(reply, place, call, status) for place, call in enumerate(reply.tool_calls)}
    response = _begun(request, reply, "completed" if reason is None else "incomplete")
    return msgspec.structs.replace(
        response,
        output=[items.pop(key) for key in order if key in items] + list(items.values()),
        completed_at=None if reason else response.created_at,
        incomplete_details=None if reason is None else {"reason": reason},
        usage=_usage(reply.usage),
        bessemer=extension_of(reply),
    )


def _begun(request: ResponseRequest, head: ReplyHead, status: Any) -> ResponseObject:
    """Return a response without what is only known at its end."""
    more: JSON = {}
    if request.text:
        more["text"] = {"format": {"type": "text"}} | {name: value for name, value in request.text.items() if value}
    if request.reasoning:
        more["reasoning"] = {"effort": None, "summary": None} | request.reasoning
    return ResponseObject(
        id=f"resp_{_number(head)}",
        created_at=int(head.created_at),
        model=head.model,
        status=status,
        output=[],
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        metadata=request.metadata or {},
        parallel_tool_calls=request.parallel_tool_calls is not False,
        temperature=request.temperature,
        tool_choice=request.tool_choice or "auto",
        tools=request.tools or [],
        top_logprobs=request.top_logprobs or 0,
        top_p=request.top_p,
        user=request.user,
        **more,
    )


def _number(head: ReplyHead) -> str:
    return head.inference_id.removeprefix("inf-")


def _thought(head: ReplyHead, text: str, status: str) -> JSON:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": f"rs_{_number(head)}", "type": "reasoning", "summary": [], "content": content, "status": status}


def _message(request: ResponseRequest, reply: Reply, status: str) -> JSON:
    parts: list[JSON] = []
    if reply.text or not reply.refusal:
        parts.append(_text(reply.text, _logprobs(request, reply.tokens)))
    if reply.refusal:
        parts.append({"type": "refusal", "refusal": reply.refusal})
    return _said(reply, parts, status)


def _said(head: ReplyHead, parts: list[JSON], status: str) -> JSON:
    return {
        "id": f"msg_{_number(head)}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def _text(text: str, logprobs: list[JSON]) -> JSON:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _logprobs(request: ResponseRequest, tokens: Sequence[ScoredToken]) -> list[JSON]:
    wanted = request.top_logprobs or 0
    asked = wanted or "message.output_text.logprobs" in (request.include or ())
    return scored_entries(tokens, wanted) if asked else []


def _call(head: ReplyHead, place: int, call: ToolCall, status: str) -> JSON:
    custom = call.type == "custom"
    return {
        "id": _call_id(head, place, call),
        "type": "custom_tool_call" if custom else "function_call",
        "call_id": call.id,
        "name": call.name,
        "input" if custom else "arguments": call.arguments,
        "status": status,
    }


def _call_id(head: ReplyHead, place: int, call: ToolCall) -> str:
    return f"{'ctc' if call.type == 'custom' else 'fc'}_{_number(head)}_{place}"


def _usage(usage: Usage | None) -> ResponseUsage | None:
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    thought = (usage.details.get("completion_tokens_details") or {}).get("reasoning_tokens")
    return ResponseUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_tokens_details={"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        output_tokens_details={"reasoning_tokens": thought or 0},
    )


class ResponseEvents:
    """Writes the events of one response, numbered from 0. An item of words ends where another item begins, calls end
    with the answer."""

    def __init__(self, request: ResponseRequest) -> None:
        self._request = request
        self._head: ReplyHead | None = None
        self._number = 0
        self._order: list[str | int] = []
        """Of the items; a call is the number of its place among the calls."""
        self._parts: dict[str, list[str]] = {}
        """Of the items of words: what was said in each part, by its type, in order."""
        self._tokens: list[ScoredToken] = []
        self._calls: dict[int, ToolCall] = {}
        self._open: str | None = None
        """The item of words that is being written."""

    def opening(self, index: int, head: ReplyHead) -> bytes:  # noqa: ARG002 - there is one
        """Write that the response is made, and under way."""
        self._head = head
        begun = _begun(self._request, head, "in_progress")
        return self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)

    def piece(self, index: int, piece: ReplyPiece) -> bytes:  # noqa: ARG002
        """Write what a piece adds to the items, and the items that begin with it."""
        written = b""
        if piece.reasoning:
            written += self._words(_THOUGHT, "reasoning_text", piece.reasoning)
        if piece.text:
            self._tokens += piece.tokens
            logprobs = _logprobs(self._request, piece.tokens)
            written += self._words(_MESSAGE, "output_text", piece.text, logprobs=logprobs)
        if piece.refusal:
            written += self._words(_MESSAGE, "refusal", piece.refusal)
        for call in piece.tool_calls:
            written += self._call_piece(call)
        return written

    def closing(self, index: int, reply: Reply) -> bytes:  # noqa: ARG002
        """Write the ends of all items, and the whole response."""
        # An answer of no words is an empty message.
        written = b"" if self._order else self._words(_MESSAGE, "output_text", "", logprobs=[])
        written += self._end_words()
        whole = response_of(self._request, reply, self._order)
        by_id = {item["id"]: item for item in whole.output}
        for place in self._calls:
            written += self._end_call(place, by_id)
        return written + self._event(f"response.{whole.status}", response=whole)

    def end(self) -> bytes:
        """Write nothing: the whole response is the last event."""
        return b""

    def failure(self, error: BessemerError) -> bytes:
        """Write the one event that ends a response which has broken."""
        said = error.body()["error"]
        failed = msgspec.structs.replace(
            _begun(self._request, self._known, "failed"),
            error={"code": said.get("code") or "server_error", "message": said["message"]},
        )
        return self._event("response.failed", response=failed)

    @property
    def _known(self) -> ReplyHead:
        assert self._head is not None, "the opening comes first"
        return self._head

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = _encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _place(self, key: str | int) -> JSON:
        """Return the id and the place of an item."""
        if isinstance(key, int):
            item_id = _call_id(self._known, key, self._calls[key])
        else:
            item_id = f"{'rs' if key == _THOUGHT else 'msg'}_{_number(self._known)}"
        return {"item_id": item_id, "output_index": self._order.index(key)}

    def _item(self, key: str, status: str) -> JSON:
        """Return an item of words as far as it is said."""
        said = {kind: "".join(texts) for kind, texts in self._parts_of(key).items()}
        if key == _THOUGHT:
            return _thought(self._known, said.get("reasoning_text", ""), status)
        return _said(self._known, [self._part(kind, text) for kind, text in said.items()], status)

    def _part(self, kind: str, text: str) -> JSON:
        if kind == "output_text":
            return _text(text, _logprobs(self._request, self._tokens) if text else [])
        return {"type": kind, "refusal" if kind == "refusal" else "text": text}

    def _parts_of(self, key: str) -> dict[str, list[str]]:
        kinds = ("reasoning_text",) if key == _THOUGHT else ("output_text", "refusal")
        return {kind: texts for kind, texts in self._parts.items() if kind in kinds}

    def _words(self, key: str, kind: str, text: str, **more: Any) -> bytes:
        """Write a piece of an item's part, and what begins with it."""
        written = b""
        if self._open != key:
            written += self._end_words()
            self._open = key
            if key not in self._order:
                self._order.append(key)
                item = self._item(key, "in_progress")
                written += self._event("response.output_item.added", output_index=len(self._order) - 1, item=item)
        if kind not in self._parts:
            self._parts[kind] = []
            at = len(self._parts_of(key)) - 1
            part = self._part(kind, "")
            written += self._event("response.content_part.added", **self._place(key), content_index=at, part=part)
        self._parts[kind].append(text)
        at = list(self._parts_of(key)).index(kind)
        return written + self._event(f"response.{kind}.delta", **self._place(key), content_index=at, delta=text, **more)

    def _end_words(self) -> bytes:
        """Write the end of the item of words that is open."""
        key, self._open, written = self._open, None, b""
        if key is None:
            return written
        place = self._place(key)
        for at, (kind, texts) in enumerate(self._parts_of(key).items()):
            part, text = self._part(kind, "".join(texts)), "".join(texts)
            said: JSON = {"refusal": text} if kind == "refusal" else {"text": text}
            if kind == "output_text":
                said["logprobs"] = part["logprobs"]
            written += self._event(f"response.{kind}.done", **place, content_index=at, **said)
            written += self._event("response.content_part.done", **place, content_index=at, part=part)
        item = self._item(key, "completed")
        return written + self._event("response.output_item.done", output_index=place["output_index"], item=item)

    def _call_piece(self, piece: ToolCallPiece) -> bytes:
        written, place = b"", piece.index
        if place not in self._calls:
            written = self._end_words()
            call = ToolCall(id=piece.id, name=piece.name, arguments="", type=piece.type)
            self._calls[place] = call
            self._order.append(place)
            item = _call(self._known, place, call, "in_progress")
            written += self._event("response.output_item.added", output_index=len(self._order) - 1, item=item)
        if not piece.arguments:
            return written
        kind = "custom_tool_call_input" if self._calls[place].type == "custom" else "function_call_arguments"
        return written + self._event(f"response.{kind}.delta", **self._place(place), delta=piece.arguments)

    def _end_call(self, place: int, items: dict[str, JSON]) -> bytes:
        at = self._place(place)
        item = items[at["item_id"]]
        if self._calls[place].type == "custom":
            written = self._event("response.custom_tool_call_input.done", **at, input=item["input"])
        else:
            said = {"name": item["name"], "arguments": item["arguments"]}
            written = self._event("response.function_call_arguments.done", **at, **said)
        return written + self._event("response.output_item.done", output_index=at["output_index"], item=item)
