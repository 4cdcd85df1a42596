"""The client's request, checked once at the edge: what is not supported is refused by name, never ignored."""

import re
from typing import Any

import msgspec

from bessemer.core.content import input_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.ids import EPISODE_ID
from bessemer.core.openai import ChatRequest
from bessemer.core.types import JSON, Frozen, Split, as_json
from bessemer.engine.choices import check_labels
from bessemer.engine.request import MAX_BIASED_TOKENS, Choices, Constraint, JsonSchema, Lark, Regex
from bessemer.gateway.providers.base import Sampling

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")
_REASONING = ("reasoning_content", "reasoning")
ROLES = ("system", "developer", "user", "assistant")


class Asked(Frozen, frozen=True):
    """A checked request: what the stages after it need, and nothing of the wire."""

    name: str
    """Route, model, alias or version as the client wrote it."""
    messages: tuple[JSON, ...]
    input: JSON | None
    input_sha256: str
    sampling: Sampling
    constraint: Constraint | None
    stream: bool
    include_usage: bool
    episode_id: str | None
    tags: dict[str, str]
    """The client's own: nothing in Bessemer is steered by them."""
    user: str | None
    split: Split | None


def parse(request: ChatRequest) -> Asked:
    """Check a chat request. Raises InvalidRequest that names the field and the remedy."""
    extension = request.bessemer
    structured = extension.input if extension is not None else None
    messages = tuple(_message(message, index) for index, message in enumerate(request.messages))
    if not messages and structured is None:
        raise InvalidRequest("Send at least one message, or structured input as `bessemer.input`.", param="messages")
    if request.n not in (None, 1):  # several answers are several inferences, which whoever asks for them makes
        raise InvalidRequest(f"n = {request.n}: one inference has one answer.", param="n")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options is only for `stream: true`.", param="stream_options")
    episode_id = extension.episode_id if extension is not None else None
    if episode_id is not None and not EPISODE_ID.fullmatch(episode_id):
        raise InvalidRequest("bessemer.episode_id must be 1 to 128 characters without spaces.", param="episode_id")
    return Asked(
        name=request.model,
        messages=messages,
        input=structured,
        input_sha256=input_hash(structured, messages),
        sampling=_sampling(request),
        constraint=_constraint(request),
        stream=bool(request.stream),
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
        episode_id=episode_id,
        tags=dict(request.metadata or {}) | (extension.tags if extension is not None else {}),
        user=request.user,
        split=extension.split if extension is not None else None,
    )


def _message(message: JSON, index: int) -> JSON:
    where = f"messages[{index}]"
    # An answer that a client sends back has keys without a value: `"refusal": null`, `"annotations": []`.
    message = {key: value for key, value in message.items() if key == "content" or value not in (None, [])}
    if message.get("role") == "assistant":
        message = _answered(message)
    unknown = set(message) - {"role", "content", "name"}
    if unknown:
        raise InvalidRequest(
            f"{where}: {', '.join(sorted(unknown))} not supported; send role, content and name only.", param=where
        )
    if message.get("role") not in ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role")
    content = message.get("content")
    if isinstance(content, str):
        return message
    if not isinstance(content, list) or not content:
        raise InvalidRequest(f"{where}.content must be text or a list of text parts.", param=f"{where}.content")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise InvalidRequest(
                f"{where}.content: only parts of type 'text' are supported; images, audio and files are not.",
                param=f"{where}.content",
            )
    return message


def _answered(message: JSON) -> JSON:
    """Return an answer as a model may read it again: without its reasoning, a refusal as what was said."""
    message = {key: value for key, value in message.items() if key not in _REASONING}
    refusal = message.pop("refusal", None)
    if message.get("content") is None and isinstance(refusal, str):
        message["content"] = refusal
    return message


def _in_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidRequest(f"{name} must be between {low:g} and {high:g}, not {value:g}.", param=name)


def _sampling(request: ChatRequest) -> Sampling:
    _in_range("temperature", request.temperature, 0, 2)
    _in_range("top_p", request.top_p, 0, 1)
    _in_range("top_k", request.top_k, 0, 1_000_000)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(request, name):
            raise InvalidRequest(f"{name} is not supported; leave it out or send 0.", param=name)
    _in_range("top_logprobs", request.top_logprobs, 0, 20)
    _in_range("max_tokens", request.max_tokens, 1, 1_000_000)
    _in_range("max_completion_tokens", request.max_completion_tokens, 1, 1_000_000)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise InvalidRequest("Send max_tokens or max_completion_tokens, not both.", param="max_tokens")
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs needs `logprobs: true`.", param="top_logprobs")
    stop = (request.stop,) if isinstance(request.stop, str) else request.stop
    if stop is not None and (len(stop) > 4 or not all(stop)):
        raise InvalidRequest("stop takes one to four non-empty strings.", param="stop")
    if request.logit_bias is not None and len(request.logit_bias) > MAX_BIASED_TOKENS:
        raise InvalidRequest(
            f"logit_bias has {len(request.logit_bias)} tokens; send at most {MAX_BIASED_TOKENS}.", param="logit_bias"
        )
    for key, value in (request.logit_bias or {}).items():
        if not _TOKEN_ID.fullmatch(key):
            raise InvalidRequest(
                f"logit_bias: {key[:20]!r} is not a token id; write it in plain digits.", param="logit_bias"
            )
        _in_range("logit_bias", value, -100, 100)
    return Sampling(
        max_tokens=request.max_tokens,
        max_completion_tokens=request.max_completion_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stop=None if stop is None else tuple(stop),
        logit_bias=request.logit_bias,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs,
        response_format=request.response_format,
        structured_outputs=None if request.structured_outputs is None else as_json(request.structured_outputs),
    )


def _constraint(request: ChatRequest) -> Constraint | None:
    formatted = _response_format(request.response_format)
    outputs = request.structured_outputs
    if outputs is None:
        return formatted
    given = [name for name in ("choice", "json", "regex", "grammar") if getattr(outputs, name) is not None]
    if len(given) != 1 or formatted is not None:
        raise InvalidRequest(
            "structured_outputs takes exactly one of choice, json, regex, grammar, and no `response_format` beside it.",
            param="structured_outputs",
        )
    if outputs.choice is not None:
        check_labels(outputs.choice)
        return Choices(labels=tuple(outputs.choice))
    if outputs.json is not None:
        return JsonSchema(schema=outputs.json)
    if outputs.regex is not None:
        return Regex(pattern=outputs.regex)
    return Lark(grammar=outputs.grammar or "")


class _JsonSchemaFormat(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any]
    strict: bool | None = None
    description: str | None = None


def _response_format(value: JSON | None) -> Constraint | None:
    if value is None or value == {"type": "text"}:
        return None
    if value == {"type": "json_object"}:
        return JsonSchema(schema={"type": "object"})
    if value.get("type") == "json_schema" and set(value) == {"type", "json_schema"}:
        try:
            return JsonSchema(schema=msgspec.convert(value["json_schema"], _JsonSchemaFormat).schema)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"response_format.json_schema: {error}.", param="response_format") from error
    raise InvalidRequest(
        "response_format must be {'type': 'text'}, {'type': 'json_object'} or {'type': 'json_schema', 'json_schema': "
        "{'name', 'schema'}}.",
        param="response_format",
    )
