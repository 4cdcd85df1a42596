"""Answers of Anthropic's Messages: a message, the server-sent events of a streamed one, or an error."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bessemer.core.anthropic_messages import MessageObject, MessageUsage
from bessemer.core.conversation import ToolCall
from bessemer.core.errors import BessemerError
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece, ToolCallPiece, Usage
from bessemer.core.types import JSON
from bessemer.dialects.openai_chat_answers import extension_of

_encode = msgspec.json.Encoder().encode
_STOPPED: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""The finish reason of a chat in Anthropic's words."""
_ERRORS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""By status; others below 500 are the request's, from there on the API's."""
_UNKNOWN: Final = MessageUsage(input_tokens=0, output_tokens=0)


def error_of(error: BessemerError) -> JSON:
    """Return an error's body: Anthropic's type and message, with OpenAI's code and field beside."""
    said = error.body()["error"]
    kind = _ERRORS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    told = {"type": kind, "message": said["message"], "code": said.get("code"), "param": said.get("param")}
    return {"type": "error", "error": told}


def message_of(reply: Reply) -> MessageObject:
    """Return a finished answer."""
    content: list[JSON] = []
    if reply.reasoning:
        content.append({"type": "thinking", "thinking": reply.reasoning, "signature": ""})
    if said := reply.text or reply.refusal:
        content.append({"type": "text", "text": said})
    content += [_tool_use(call) for call in reply.tool_calls]
    return MessageObject(
        id=_message_id(reply),
        model=reply.model,
        content=content,
        stop_reason=_stop_reason(reply),
        usage=_usage(reply.usage),
        bessemer=extension_of(reply),
    )


def _message_id(head: ReplyHead) -> str:
    return "msg_" + head.inference_id.removeprefix("inf-")


def _stop_reason(reply: Reply) -> str:
    return "refusal" if reply.refusal and not reply.text else _STOPPED.get(reply.finish_reason, "end_turn")


def _tool_use(call: ToolCall) -> JSON:
    """Return a call as a block; arguments that are no object, which a model may write, stand in `arguments`."""
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        given = call.arguments
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": given if isinstance(given, dict) else {"arguments": given},
    }


def _usage(usage: Usage | None) -> MessageUsage:
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return _UNKNOWN
    cached = usage.cached_tokens or 0
    return MessageUsage(
        input_tokens=max(0, usage.input_tokens - cached),
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=cached,
    )


class MessageEvents:
    """Writes the events of one message. A block of words ends where another block begins, tool uses with the answer:
    pieces of several may come in turns."""

    def __init__(self) -> None:
        self._blocks = 0
        self._open: str | None = None
        """The kind of the block of words that is being written; it is the last one that began."""
        self._calls: dict[int, int] = {}
        """The block of each call, by the call's place."""

    def opening(self, index: int, head: ReplyHead) -> bytes:  # noqa: ARG002 - there is one
        """Write the message without its content; what the input has of tokens is known at the end."""
        begun = MessageObject(id=_message_id(head), model=head.model, content=[], usage=_UNKNOWN)
        return _event("message_start", message=begun)

    def piece(self, index: int, piece: ReplyPiece) -> bytes:  # noqa: ARG002
        """Write what a piece adds to the blocks, and the blocks that begin with it."""
        written = b""
        if piece.reasoning:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            written += self._words(block, {"type": "thinking_delta", "thinking": piece.reasoning})
        for text in (piece.text, piece.refusal):
            if text:
                written += self._words({"type": "text", "text": ""}, {"type": "text_delta", "text": text})
        for call in piece.tool_calls:
            written += self._call(call)
        return written

    def closing(self, index: int, reply: Reply) -> bytes:  # noqa: ARG002
        """Write the ends of all blocks, why the answer ended, and its usage."""
        written = self._end_words()
        for block in self._calls.values():
            written += _event("content_block_stop", index=block)
        delta = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
        told = {"delta": delta, "usage": _usage(reply.usage), "bessemer": extension_of(reply)}
        return written + _event("message_delta", **told) + _event("message_stop")

    def end(self) -> bytes:
        """Write nothing: `message_stop` is the last event."""
        return b""

    def failure(self, error: BessemerError) -> bytes:
        """Write the one event that ends a message which has broken."""
        return b"event: error\ndata: " + _encode(error_of(error)) + b"\n\n"

    def _words(self, block: JSON, delta: JSON) -> bytes:
        written = b""
        if self._open != block["type"]:
            written = self._end_words()
            self._open = block["type"]
            written += _event("content_block_start", index=self._blocks, content_block=block)
            self._blocks += 1
        return written + _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _end_words(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return _event("content_block_stop", index=self._blocks - 1)

    def _call(self, piece: ToolCallPiece) -> bytes:
        written = b""
        if piece.index not in self._calls:
            written = self._end_words()
            self._calls[piece.index] = self._blocks
            self._blocks += 1
            block = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
            written += _event("content_block_start", index=self._calls[piece.index], content_block=block)
        if not piece.arguments:
            return written
        delta = {"type": "input_json_delta", "partial_json": piece.arguments}
        return written + _event("content_block_delta", index=self._calls[piece.index], delta=delta)


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _encode({"type": kind, **fields}) + b"\n\n"
