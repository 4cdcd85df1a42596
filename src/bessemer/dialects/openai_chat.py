"""OpenAI's chat completions. What Bessemer does not read travels on to upstreams that speak the same dialect, which
know it or refuse it; any other model refuses it by name, unless it is a default or says nothing of the answer.

Several answers to one request (`n`) are several conversations, told as n choices; a seed rises by one for each.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import msgspec

from bessemer.core.content import canonical_json
from bessemer.core.conversation import (
    MAX_LIMIT,
    MAX_SCHEMA_BYTES,
    MAX_SOURCE_BYTES,
    AnswerRules,
    Choices,
    Constraint,
    Conversation,
    JsonSchema,
    Lark,
    Regex,
    Sampling,
    Tool,
    ToolChoice,
    in_range,
    message_of,
)
from bessemer.core.decoding import decode_with_others
from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.ids import EPISODE_ID
from bessemer.core.invalid import invalid
from bessemer.core.openai import Wire
from bessemer.core.openai_chat import ChatCompletion, ChatRequest, RequestExtension, StructuredOutputs
from bessemer.core.pieces import is_large
from bessemer.core.reply import Reply
from bessemer.core.types import JSON
from bessemer.dialects.openai_chat_answers import ChatEvents, completion_of
from bessemer.engine.choices import check_labels
from bessemer.engine.request import MAX_BIASED_TOKENS

NAME = "openai_chat"
MAX_N = 16
_HINTS = frozenset(
    {
        "cache_prompt",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
    }
)
"""Fields that say how a server works and bills, not what is answered."""
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "chat_template_kwargs": ({},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "best_of": (1,),
    "min_p": (0,),
    "repetition_penalty": (1,),
}
"""Values that ask for nothing which is not so without them."""
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,8}")


class OpenAIChat:
    """The dialect of POST /v1/chat/completions."""

    name = NAME
    path = "/v1/chat/completions"
    key_header = "authorization"
    streams = True
    takes = ChatRequest
    gives = ChatCompletion

    def parse(self, body: bytes) -> "ChatAsked":
        """Read a request. See Dialect."""
        return asked(*decode_with_others(ChatRequest, body))

    def error(self, error: BessemerError) -> JSON:
        """Return OpenAI's error body."""
        return error.body()


@dataclass(frozen=True, slots=True)
class ChatAsked:
    """A checked request: its conversations, and how the answer is wanted."""

    conversations: tuple[Conversation, ...]
    stream: bool
    include_usage: bool

    def whole(self, replies: Sequence[Reply]) -> ChatCompletion:
        """Return the `chat.completion`."""
        return completion_of(self.conversations[0], replies)

    def events(self) -> ChatEvents | None:
        """Return what writes `chat.completion.chunk`s."""
        if not self.stream:
            return None
        return ChatEvents(self.conversations[0], len(self.conversations), include_usage=self.include_usage)


def asked(request: ChatRequest, more: JSON | None = None) -> ChatAsked:
    """Check a request, with the fields that no noun stands for. Raises InvalidRequest that names field and remedy."""
    count = 1 if request.n is None else request.n
    if not 1 <= count <= MAX_N:
        raise InvalidRequest(f"'n' must be 1 to {MAX_N}; got {count}.", param="n")
    first = _conversation(request, more or {})
    return ChatAsked(
        conversations=(first, *(_later(first, index) for index in range(1, count))),
        stream=bool(request.stream),
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
    )


def _later(first: Conversation, index: int) -> Conversation:
    seed = first.sampling.seed
    sampling = first.sampling if seed is None else msgspec.structs.replace(first.sampling, seed=seed + index)
    return msgspec.structs.replace(first, sampling=sampling, place=index)


def _conversation(request: ChatRequest, more: JSON) -> Conversation:
    extension = request.bessemer or RequestExtension()
    messages = tuple(message_of(message, f"messages[{index}]") for index, message in enumerate(request.messages))
    if not messages and extension.input is None:
        raise InvalidRequest("Send at least one message, or structured input as `bessemer.input`.", param="messages")
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest("stream_options is only for `stream: true`.", param="stream_options")
    if extension.episode_id is not None and not EPISODE_ID.fullmatch(extension.episode_id):
        raise InvalidRequest("bessemer.episode_id must be 1 to 128 characters without spaces.", param="episode_id")
    spelling, extra = _forwarded(request, more)
    choice = _tool_choice(request)
    if request.tool_choice is not None:
        (extra if choice is None else spelling)["tool_choice"] = request.tool_choice
    return Conversation(
        model=request.model,
        messages=messages,
        tool_choice=choice or ToolChoice(),
        tools=tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ())),
        input=extension.input,
        sampling=_sampling(request),
        rules=_rules(request),
        episode_id=extension.episode_id,
        tags={**(request.metadata or {}), **extension.tags},
        user=request.user,
        split=extension.split,
        cache=extension.cache,
        dialect=NAME,
        spelling=spelling,
        extra=extra,
    )


def _tool(tool: JSON, where: str) -> Tool:
    kind = tool.get("type")
    said = tool.get(kind) if isinstance(kind, str) else None
    if not isinstance(kind, str):
        raise InvalidRequest(f"{where}.type must be text, such as 'function'.", param=f"{where}.type")
    if kind != "function":
        name = said.get("name") if isinstance(said, dict) else None
        return Tool(name=name if isinstance(name, str) else kind, sent=tool)
    try:
        function = msgspec.convert(said, _Function)
    except msgspec.ValidationError as error:
        raise invalid(error, f"{where}.function") from None
    return Tool(
        name=function.name,
        description=function.description,
        parameters=function.parameters,
        strict=function.strict,
        sent=tool if len(tool) > 2 or not set(said or ()) <= set(_Function.__struct_fields__) else None,
    )


def _tool_choice(request: ChatRequest) -> ToolChoice | None:
    """Return how tools are to be called; None for a way that no noun stands for. Raises InvalidRequest."""
    said = request.tool_choice
    if isinstance(said, str):
        if said not in {"auto", "none", "required"}:
            raise InvalidRequest(
                "tool_choice must be 'none', 'auto', 'required' or {'type': 'function', 'function': {'name'}}.",
                param="tool_choice",
            )
        if not request.tools:
            return ToolChoice()  # some clients always send it
        return ToolChoice(mode=cast("Literal['auto', 'none', 'required']", said))
    if said is None:
        return ToolChoice()
    function = said.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if said.get("type") != "function" or not isinstance(name, str):
        return None
    return ToolChoice(mode="required", name=name)


def _forwarded(request: ChatRequest, more: JSON) -> tuple[JSON, JSON]:
    """Return what an upstream of this dialect gets as it was written: what others need not know, and what they must."""
    spelled: JSON = {
        "max_completion_tokens": request.max_completion_tokens,
        "response_format": request.response_format,
        "structured_outputs": request.structured_outputs and msgspec.to_builtins(request.structured_outputs),
        "tools": request.tools or None,
        "user": request.user,
        "metadata": request.metadata,
    }
    extra: JSON = {}
    penalties = {name: getattr(request, name) for name in ("presence_penalty", "frequency_penalty")}
    for name, value in (penalties | more).items():
        needless = name in _HINTS or value in _DEFAULTS.get(name, ())
        (spelled if needless else extra)[name] = value
    return ({name: value for name, value in spelled.items() if value is not None}, extra)


def _sampling(request: ChatRequest) -> Sampling:
    for name in ("presence_penalty", "frequency_penalty"):
        in_range(name, getattr(request, name), -2, 2)
    in_range("max_completion_tokens", request.max_completion_tokens, 1, MAX_LIMIT)
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise InvalidRequest("Send max_tokens or max_completion_tokens, not both.", param="max_tokens")
    stop = (request.stop,) if isinstance(request.stop, str) and request.stop else request.stop or None
    limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    sampling = Sampling(
        max_tokens=limit,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stop=None if stop is None else tuple(stop),
        logit_bias=None if request.logit_bias is None else _logit_bias(request.logit_bias),
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs if request.logprobs else request.top_logprobs or None,
    )
    sampling.check()
    return sampling


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    if len(bias) > MAX_BIASED_TOKENS:
        raise InvalidRequest(
            f"logit_bias has {len(bias)} tokens; send at most {MAX_BIASED_TOKENS}.", param="logit_bias"
        )
    for key in bias:
        if not _TOKEN_ID.fullmatch(key):
            raise InvalidRequest(
                f"logit_bias: {key[:20]!r} is not a token id; write it in plain digits.", param="logit_bias"
            )
    return {int(token): value for token, value in bias.items()}


def _rules(request: ChatRequest) -> AnswerRules:
    _check_sizes(request)
    formatted = _response_format(request.response_format)
    outputs = request.structured_outputs
    if outputs is None:
        return AnswerRules() if formatted is None else AnswerRules(constraint=formatted, requested="response_format")
    given = [name for name in ("choice", "json", "regex", "grammar") if getattr(outputs, name) is not None]
    if len(given) != 1 or formatted is not None:
        raise InvalidRequest(
            "structured_outputs takes exactly one of choice, json, regex, grammar, and no `response_format` beside it.",
            param="structured_outputs",
        )
    constraint: Constraint
    if outputs.choice is not None:
        check_labels(outputs.choice)
        constraint = Choices(labels=tuple(outputs.choice))
    elif outputs.json is not None:
        constraint = JsonSchema(schema=outputs.json)
    elif outputs.regex is not None:
        constraint = Regex(pattern=outputs.regex)
    else:
        constraint = Lark(grammar=outputs.grammar or "")
    return AnswerRules(constraint=constraint, requested="structured_outputs")


class _Function(Wire):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: JSON | None = None
    strict: bool | None = None


class _JsonSchemaFormat(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any]
    strict: bool | None = None
    description: str | None = None


def _check_sizes(request: ChatRequest) -> None:
    """Refuse what no upstream takes either, and would be hashed, written and sent for nothing."""
    outputs = request.structured_outputs or StructuredOutputs()
    for name, text in (("regex", outputs.regex), ("grammar", outputs.grammar)):
        if text is not None and (len(text) > MAX_SOURCE_BYTES or len(text.encode()) > MAX_SOURCE_BYTES):
            raise InvalidRequest(
                f"structured_outputs.{name} has more than {MAX_SOURCE_BYTES} bytes; shorten it.",
                param="structured_outputs",
            )
    for name, schema in (("response_format", request.response_format), ("structured_outputs", outputs.json)):
        if schema is not None and is_large(schema) and len(canonical_json(schema)) > MAX_SCHEMA_BYTES:
            raise InvalidRequest(f"The schema in {name} has more than {MAX_SCHEMA_BYTES} bytes.", param=name)


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
