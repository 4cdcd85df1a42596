"""OpenAI's Responses, as far as they need no stored state: read as the chat that asks the same.

Items become messages, function calls and their outputs tool calls and tool messages, `text.format` a response format:
so any target answers them, an upstream that speaks chat is sent what a chat client would have sent it, and records are
of one form. Reasoning items are left out, which chat models do not read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bessemer.core.conversation import Conversation
from bessemer.core.decoding import decode_with_others
from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.invalid import invalid
from bessemer.core.openai_chat import ChatRequest
from bessemer.core.openai_responses import ResponseObject, ResponseRequest
from bessemer.core.reply import Reply
from bessemer.core.types import JSON
from bessemer.dialects import openai_chat
from bessemer.dialects.openai_responses_answers import ResponseEvents, response_of

NAME: Final = "openai_responses"
_LOGPROBS: Final = "message.output_text.logprobs"
_FIELDS: Final[Mapping[str, str]] = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "stream_options": "stream_options",
}
"""What a field of a chat request is called here."""


class OpenAIResponses:
    """The dialect of POST /v1/responses."""

    name = NAME
    path = "/v1/responses"
    key_header = "authorization"
    streams = True
    takes = ResponseRequest
    gives = ResponseObject

    def parse(self, body: bytes) -> "ResponseAsked":
        """Read a request. See Dialect."""
        return _asked(*decode_with_others(ResponseRequest, body))

    def error(self, error: BessemerError) -> JSON:
        """Return OpenAI's error body."""
        return error.body()


@dataclass(frozen=True, slots=True)
class ResponseAsked:
    """A checked request: the chat that it is, and the request itself, which its answer repeats."""

    conversations: tuple[Conversation, ...]
    request: ResponseRequest

    def whole(self, replies: Sequence[Reply]) -> ResponseObject:
        """Return the response."""
        (reply,) = replies
        return response_of(self.request, reply)

    def events(self) -> ResponseEvents | None:
        """Return what writes the response's events."""
        return ResponseEvents(self.request) if self.request.stream else None


def _asked(request: ResponseRequest, more: JSON) -> ResponseAsked:
    _check_stateless(request)
    chat, extra = _as_chat(request)
    try:
        asked = openai_chat.asked(msgspec.convert(chat, ChatRequest), extra | more)
    except msgspec.ValidationError as error:
        raise _renamed(invalid(error)) from None
    except InvalidRequest as error:
        raise _renamed(error) from None
    return ResponseAsked(asked.conversations, request)


def _renamed(error: InvalidRequest) -> InvalidRequest:
    """Return a chat's error with the field's name here."""
    field = (error.param or "").partition("[")[0].partition(".")[0]
    if field in _FIELDS:
        error.param = _FIELDS[field]
    return error


def _check_stateless(request: ResponseRequest) -> None:
    """Refuse what needs a response that was kept, or a process that goes on without its client."""
    for name, remedy in (
        ("previous_response_id", "send the earlier items in `input`"),
        ("conversation", "send its items in `input`"),
        ("prompt", "send the prompt's text in `instructions` or `input`"),
        ("background", "leave it out, and read the answer whole or as a stream"),
        ("max_tool_calls", "count the calls where the tools run"),
    ):
        if getattr(request, name) not in (None, False):
            message = f"{name} is not served here: responses are not kept; {remedy}."
            raise InvalidRequest(message, param=name, code="unsupported_parameter")
    if request.truncation not in (None, "disabled"):
        raise InvalidRequest(
            "truncation is always 'disabled' here: nothing of the input is dropped.",
            param="truncation",
            code="unsupported_parameter",
        )


def _as_chat(request: ResponseRequest) -> tuple[JSON, JSON]:
    """Return the chat request that asks the same, and its fields that the chat's type does not have."""
    given = [{"role": "user", "content": request.input}] if isinstance(request.input, str) else request.input or []
    text, reasoning = request.text or {}, request.reasoning or {}
    wants_logprobs = bool(request.top_logprobs) or _LOGPROBS in (request.include or ())
    chat: JSON = {
        "model": request.model,
        "messages": _messages(request.instructions, given),
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "logprobs": wants_logprobs or None,
        "top_logprobs": request.top_logprobs if wants_logprobs else None,
        "tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ())] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "response_format": _format(text.get("format")),
        "metadata": request.metadata,
        "user": request.user,
        "stream": request.stream,
        "bessemer": None if request.bessemer is None else msgspec.to_builtins(request.bessemer),
    }
    extra: JSON = {
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        "reasoning_effort": reasoning.get("effort"),
        "verbosity": text.get("verbosity"),
        "safety_identifier": request.safety_identifier,
        "prompt_cache_key": request.prompt_cache_key,
        "prompt_cache_retention": request.prompt_cache_retention,
        "service_tier": request.service_tier,
    }
    said = {name: value for name, value in chat.items() if value is not None}
    return said, {name: value for name, value in extra.items() if value is not None}


def _messages(instructions: str | None, items: Sequence[JSON]) -> list[JSON]:
    found: list[JSON] = [] if instructions is None else [{"role": "system", "content": instructions}]
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        read = _ITEMS.get(kind)
        if read is None:
            raise InvalidRequest(
                f"input[{index}].type {kind!r} is not read here; known: {', '.join(_ITEMS)}.",
                param=f"input[{index}].type",
                code="unsupported_parameter",
            )
        read(found, item, f"input[{index}]")
    return found


def _message(found: list[JSON], item: JSON, where: str) -> None:
    content = item.get("content")
    parts = (
        [_part(part, f"{where}.content[{at}]") for at, part in enumerate(content)]
        if isinstance(content, list)
        else None
    )
    message: JSON = {"role": item.get("role"), "content": content if parts is None else parts}
    if parts is not None and item.get("role") == "assistant":
        refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
        message["content"] = [part for part in parts if part["type"] != "refusal"] or None
        if refusals:
            message["refusal"] = "".join(refusals)
    found.append(message)


def _part(part: Any, where: str) -> JSON:
    """Return a part of a message as chat writes it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in {"input_text", "output_text", "text"}:
        return {"type": "text", "text": part.get("text")}
    if kind == "refusal":
        return {"type": "refusal", "refusal": str(part.get("refusal") or "")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {} if part.get("detail") is None else {"detail": part["detail"]}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file":
        file = {name: part[name] for name in ("file_data", "file_id", "filename") if part.get(name) is not None}
        if set(file) & {"file_data", "file_id"}:
            return {"type": "file", "file": file}
    if kind == "input_audio":
        return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise InvalidRequest(
        f"{where} must be input_text, input_image with `image_url`, input_file with `file_data` or `file_id`, "
        "input_audio, output_text or refusal.",
        param=where,
    )


def _function_call(found: list[JSON], item: JSON, where: str) -> None:
    said = {"name": item.get("name"), "arguments": item.get("arguments")}
    _called(found, {"id": item.get("call_id"), "type": "function", "function": said}, where)


def _custom_call(found: list[JSON], item: JSON, where: str) -> None:
    said = {"name": item.get("name"), "input": item.get("input")}
    _called(found, {"id": item.get("call_id"), "type": "custom", "custom": said}, where)


def _called(found: list[JSON], call: JSON, where: str) -> None:
    """Add a call to the message of the assistant that made it: parallel calls are of one message."""
    if not isinstance(call["id"], str):
        raise InvalidRequest(f"{where}.call_id must be text.", param=f"{where}.call_id")
    if not found or found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": None})
    found[-1].setdefault("tool_calls", []).append(call)


def _output(found: list[JSON], item: JSON, where: str) -> None:
    output = item.get("output")
    if isinstance(output, list):
        output = [_part(part, f"{where}.output[{at}]") for at, part in enumerate(output)]
    found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})


def _nothing(found: list[JSON], item: JSON, where: str) -> None:
    """Leave an item out: what was thought is not read again."""


_ITEMS: Final[Mapping[str, Callable[[list[JSON], JSON, str], None]]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _output,
    "reasoning": _nothing,
}


def _tool(tool: JSON, where: str) -> JSON:
    """Return a tool as chat writes it. Raises InvalidRequest for one that the server would have to run."""
    kind = tool.get("type")
    said = {name: value for name, value in tool.items() if name != "type" and value is not None}
    if kind in {"function", "custom"}:
        return {"type": kind, kind: said}
    raise InvalidRequest(
        f"{where}.type {kind!r} is a tool that the server runs, which is not served here; send functions.",
        param=f"{where}.type",
        code="unsupported_parameter",
    )


def _tool_choice(choice: str | JSON | None) -> str | JSON | None:
    if isinstance(choice, dict) and choice.get("type") in {"function", "custom"}:
        return {"type": choice["type"], choice["type"]: {"name": choice.get("name")}}
    return choice


def _format(said: Any) -> JSON | None:
    if isinstance(said, dict) and said.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": {name: said[name] for name in said if name != "type"}}
    if said is not None and not isinstance(said, dict):
        raise InvalidRequest("text.format must be an object with a `type`.", param="text.format")
    return said
