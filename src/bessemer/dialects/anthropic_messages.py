"""Anthropic's Messages: read as the chat that asks the same.

Blocks become messages and parts, tool uses and their results tool calls and tool messages, `system` the first message:
so any target answers them, an upstream that speaks OpenAI's chat is sent what a chat client would have sent it, and
records are of one form. Thoughts of earlier answers are left out, which chat models do not read again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bessemer.core.anthropic_messages import MessageObject, MessageRequest
from bessemer.core.conversation import Conversation
from bessemer.core.decoding import decode_with_others
from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.invalid import invalid
from bessemer.core.openai_chat import ChatRequest
from bessemer.core.reply import Reply
from bessemer.core.types import JSON
from bessemer.dialects import openai_chat
from bessemer.dialects.anthropic_messages_answers import MessageEvents, error_of, message_of

NAME: Final = "anthropic_messages"
_FIELDS: Final[Mapping[str, str]] = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
    "response_format": "output_config.format",
}
"""What a field of a chat request is called here."""
_CHOICES: Final[Mapping[str, str]] = {"auto": "auto", "any": "required", "none": "none"}
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})
_encode = msgspec.json.Encoder().encode


class AnthropicMessages:
    """The dialect of POST /v1/messages."""

    name = NAME
    path = "/v1/messages"
    key_header = "x-api-key"
    streams = True
    takes = MessageRequest
    gives = MessageObject

    def parse(self, body: bytes) -> "MessageAsked":
        """Read a request. See Dialect."""
        request, more = decode_with_others(MessageRequest, body)
        return _asked(request, {name: value for name, value in more.items() if value not in ([], {})})

    def error(self, error: BessemerError) -> JSON:
        """Return Anthropic's error body."""
        return error_of(error)


@dataclass(frozen=True, slots=True)
class MessageAsked:
    """A checked request: the chat that it is, and how the answer is wanted."""

    conversations: tuple[Conversation, ...]
    stream: bool

    def whole(self, replies: Sequence[Reply]) -> MessageObject:
        """Return the message."""
        (reply,) = replies
        return message_of(reply)

    def events(self) -> MessageEvents | None:
        """Return what writes the message's events."""
        return MessageEvents() if self.stream else None


def _asked(request: MessageRequest, more: JSON) -> MessageAsked:
    chat, extra = _as_chat(request)
    try:
        asked = openai_chat.asked(msgspec.convert(chat, ChatRequest), extra | more)
    except msgspec.ValidationError as error:
        raise _renamed(invalid(error)) from None
    except InvalidRequest as error:
        raise _renamed(error) from None
    return MessageAsked(asked.conversations, bool(request.stream))


def _renamed(error: InvalidRequest) -> InvalidRequest:
    """Return a chat's error with the field's name here."""
    error.param = _FIELDS.get(error.param or "", error.param)
    return error


def _as_chat(request: MessageRequest) -> tuple[JSON, JSON]:
    """Return the chat request that asks the same, and its fields that the chat's type does not have."""
    output, choice = request.output_config or {}, request.tool_choice or {}
    chat: JSON = {
        "model": request.model,
        "messages": [*_system(request.system), *_messages(request.messages)],
        "max_completion_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop": request.stop_sequences or None,
        "tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ())] or None,
        "tool_choice": _tool_choice(choice),
        "response_format": _format(output.get("format")),
        "user": (request.metadata or {}).get("user_id"),
        "stream": request.stream,
        "bessemer": None if request.bessemer is None else msgspec.to_builtins(request.bessemer),
    }
    extra: JSON = {
        "parallel_tool_calls": False if choice.get("disable_parallel_tool_use") else None,
        "reasoning_effort": output.get("effort"),
    }
    said = {name: value for name, value in chat.items() if value is not None}
    return said, {name: value for name, value in extra.items() if value is not None}


def _system(said: str | list[JSON] | None) -> list[JSON]:
    if not said:
        return []
    content = said if isinstance(said, str) else _plainly([_part(one, f"system[{at}]") for at, one in enumerate(said)])
    return [{"role": "system", "content": content}]


def _messages(given: Sequence[JSON]) -> list[JSON]:
    found: list[JSON] = []
    for index, message in enumerate(given):
        role, content, where = message.get("role"), message.get("content"), f"messages[{index}]"
        if role not in {"user", "assistant", "system"}:
            raise InvalidRequest(f"{where}.role must be user or assistant.", param=f"{where}.role")
        if isinstance(content, str):
            found.append({"role": role, "content": content})
        elif not isinstance(content, list):
            raise InvalidRequest(f"{where}.content must be text or a list of blocks.", param=f"{where}.content")
        elif role == "assistant":
            found.append(_answered(content, where))
        else:
            found += _told(role, content, where)
    return found


def _answered(blocks: Sequence[Any], where: str) -> JSON:
    """Return an answer of before: what was said, and which tools it asked for."""
    parts: list[JSON] = []
    calls: list[JSON] = []
    for at, block in enumerate(blocks):
        kind = _kind(block, f"{where}.content[{at}]")
        if kind == "tool_use":
            said = {"name": block.get("name"), "arguments": _encode(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": said})
        elif kind not in _THOUGHTS:
            parts.append(_part(block, f"{where}.content[{at}]"))
    message: JSON = {"role": "assistant", "content": _plainly(parts) if parts else None}
    return message | ({"tool_calls": calls} if calls else {}) if parts or calls else message | {"content": ""}


def _told(role: str, blocks: Sequence[Any], where: str) -> list[JSON]:
    """Return what the tools say, a message each, and then what the user says."""
    results: list[JSON] = []
    parts: list[JSON] = []
    for at, block in enumerate(blocks):
        place = f"{where}.content[{at}]"
        if _kind(block, place) != "tool_result":
            parts.append(_part(block, place))
            continue
        content = block.get("content")
        if isinstance(content, list):
            content = (
                _plainly([_part(one, f"{place}.content[{i}]") for i, one in enumerate(content)]) if content else ""
            )
        results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": content or ""})
    return [*results, {"role": role, "content": _plainly(parts)}] if parts or not results else results


def _kind(block: Any, where: str) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where} must be a block with a `type`.", param=where)
    return kind


def _plainly(parts: list[JSON]) -> str | list[JSON]:
    """Return the content of one text as that text."""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _part(block: Any, where: str) -> JSON:
    """Return a block as a part of a chat message. Raises InvalidRequest for one that chat has no part for."""
    kind = _kind(block, where)
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "text": block["text"]}
    source = block.get("source") if isinstance(block.get("source"), dict) else {}
    data = f"data:{source.get('media_type')};base64,{source.get('data')}"
    if kind == "image" and source.get("type") in {"base64", "url"}:
        return {"type": "image_url", "image_url": {"url": data if source["type"] == "base64" else source.get("url")}}
    if kind == "document" and source.get("type") == "base64":
        return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": data}}
    if kind == "document" and source.get("type") == "text" and isinstance(source.get("data"), str):
        return {"type": "text", "text": source["data"]}
    raise InvalidRequest(
        f"{where}: a block of type {kind!r} is not read here; send text, an image (base64 or url) or a document "
        "(base64 or text).",
        param=where,
        code="unsupported_parameter",
    )


def _tool(tool: JSON, where: str) -> JSON:
    """Return a tool as chat writes it. Raises InvalidRequest for one that the server would have to run."""
    if tool.get("type") not in (None, "custom"):
        raise InvalidRequest(
            f"{where}.type {tool['type']!r} is Anthropic's own tool, which is not served here; send tools with an "
            "`input_schema`.",
            param=f"{where}.type",
            code="unsupported_parameter",
        )
    said = {"name": tool.get("name"), "description": tool.get("description"), "parameters": tool.get("input_schema")}
    function = {name: value for name, value in (said | {"strict": tool.get("strict")}).items() if value is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: JSON) -> str | JSON | None:
    kind = choice.get("type")
    if kind == "tool":
        return {"type": "function", "function": {"name": choice.get("name")}}
    if kind is None or kind in _CHOICES:
        return None if kind is None else _CHOICES[kind]
    raise InvalidRequest("tool_choice.type must be auto, any, tool or none.", param="tool_choice.type")


def _format(said: Any) -> JSON | None:
    if said is None:
        return None
    if not isinstance(said, dict) or said.get("type") != "json_schema":
        raise InvalidRequest("output_config.format must be of type 'json_schema'.", param="output_config.format")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": said.get("schema"), "strict": True}}
