"""What is asked, whatever wire format it came in: messages and tools, sampling, and what binds the answer.

Dialects write these nouns and providers read them. What a client sent that no noun stands for is kept as it came, with
the name of its dialect: parts that are no text (`Part.sent`), fields (`Conversation.extra`), and spellings of fields
that do have a noun (`Conversation.spelling`). Only upstreams of the same dialect are sent it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bessemer.core.datasets import Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON, Frozen

MAX_LIMIT = 1_000_000
"""Of generated tokens that a client may name."""
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 1024
MAX_SOURCE_BYTES = 64_000
"""Of an expression or a grammar in UTF-8, whoever reads it."""
MAX_SCHEMA_BYTES = 1 << 20
"""Of a schema as JSON, for an upstream; OpenAI's takes 120,000 characters of names and values."""
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_PLAIN_ROLES = frozenset({"system", "developer", "user", "assistant"})
"""Of messages that are a role and a text, and nothing else."""
HINTS = frozenset({"id", "created", "cache_control"})
"""Fields of a message that say nothing of what was said: a model may leave them unread."""
_TEXTS = frozenset({"text", "input_text", "output_text"})
"""Types of parts that are text, those of OpenAI's responses included."""
_REASONING = ("reasoning_content", "reasoning")

# -- messages ---------------------------------------------------------------------------------------------------------


class Part(Frozen, frozen=True):
    """A piece of a message: text, or something else (an image, audio, a file) that is not looked into."""

    text: str | None = None
    """None: it is no text."""
    sent: JSON | None = None
    """As the client wrote it, where the text does not say everything."""

    def plain(self) -> JSON:
        """Return it as the client wrote it."""
        return {"type": "text", "text": self.text} if self.sent is None else self.sent


class ToolCall(Frozen, frozen=True):
    """A model's wish to have a tool called."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it: it need not be valid. Of a custom tool: its input, any text."""
    type: Literal["function", "custom"] = "function"

    def plain(self) -> JSON:
        """Return it as the chat format writes it."""
        key = "arguments" if self.type == "function" else "input"
        return {"id": self.id, "type": self.type, self.type: {"name": self.name, key: self.arguments}}


class Tool(Frozen, frozen=True):
    """A function that a model may ask to have called."""

    name: str
    description: str | None = None
    parameters: JSON | None = None
    """JSON schema of its arguments."""
    strict: bool | None = None
    sent: JSON | None = None
    """As the client wrote it, where the fields above do not say everything (a tool that is no function)."""

    def plain(self) -> JSON:
        """Return it as the chat format writes it."""
        if self.sent is not None:
            return self.sent
        said = {"name": self.name, "description": self.description, "parameters": self.parameters}
        function = {name: value for name, value in (said | {"strict": self.strict}).items() if value is not None}
        return {"type": "function", "function": function}


class ToolChoice(Frozen, frozen=True):
    """Whether tools are to be called."""

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None
    """Of the one function that is to be called; the mode is `required` then."""


class Message(Frozen, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str | tuple[Part, ...] | None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """Of a tool's result: the call that it answers."""
    extra: JSON = msgspec.field(default_factory=dict)
    """What no field above stands for, as the client wrote it."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content, where it is more than one text."""
        return self.content if isinstance(self.content, tuple) else ()

    @property
    def text(self) -> str:
        """What it says; parts that are no text say nothing."""
        return self.content if isinstance(self.content, str) else "".join(part.text or "" for part in self.parts)

    def plain(self) -> JSON:
        """Return it in the plain form: JSON as OpenAI's chat writes it, of which records, data sets and hashes are."""
        content = self.content
        message: JSON = {
            "role": self.role,
            "content": [part.plain() for part in content] if isinstance(content, tuple) else content,
        }
        if self.name is not None:
            message["name"] = self.name
        if self.tool_calls:
            message["tool_calls"] = [call.plain() for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        message.update(self.extra)
        return message


def plain(messages: Sequence[Message]) -> tuple[JSON, ...]:
    """Return messages as JSON, see `Message.plain`."""
    return tuple(message.plain() for message in messages)


def message_of(said: JSON, where: str) -> Message:
    """Read a message of the plain form. Raises InvalidRequest that names the field, which stands at `where`.

    An answer may come back as it was given: what models do not read again (reasoning) is left out, keys without a value
    (`"refusal": null`, `"annotations": []`) say nothing, and a refusal is what was said. What is not known here is kept
    for upstreams that may know it.
    """
    if len(said) == 2 and said.get("role") in _PLAIN_ROLES and isinstance(text := said.get("content"), str):
        return Message(role=said["role"], content=text)  # almost all of them
    said = {key: value for key, value in said.items() if key == "content" or value not in (None, [])}
    role = said.pop("role", None)
    if role not in ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role")
    if role == "assistant":
        said = _answered(said)
    calls = _tool_calls(said.pop("tool_calls", []), f"{where}.tool_calls")
    content, name = said.pop("content", None), said.pop("name", None)
    return Message(
        role=role,
        # Who asks for a call, or spoke in sound, need not have said anything beside.
        content=None if role == "assistant" and content in (None, []) and (calls or said) else _content(content, where),
        name=None if name is None else _string(name, f"{where}.name"),
        tool_calls=calls,
        tool_call_id=_string(said.pop("tool_call_id", None), f"{where}.tool_call_id") if role == "tool" else None,
        extra=said,
    )


def _content(content: Any, where: str) -> str | tuple[Part, ...]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InvalidRequest(f"{where}.content must be text or a list of parts.", param=f"{where}.content")
    return tuple(_part(part, f"{where}.content[{index}]") for index, part in enumerate(content))


def _part(part: Any, where: str) -> Part:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise InvalidRequest(f"{where} must be an object with a `type`.", param=where)
    if part["type"] not in _TEXTS:
        return Part(sent=part)
    plainly = part["type"] == "text" and len(part) == 2
    return Part(text=_string(part.get("text"), f"{where}.text"), sent=None if plainly else part)


def _tool_calls(calls: Any, where: str) -> tuple[ToolCall, ...]:
    if not isinstance(calls, list):
        raise InvalidRequest(f"{where} must be a list of calls.", param=where)
    return tuple(_tool_call(call, f"{where}[{index}]") for index, call in enumerate(calls))


def _tool_call(call: Any, where: str) -> ToolCall:
    kind = call.get("type", "function") if isinstance(call, dict) else None
    said = call.get(kind) if isinstance(kind, str) else None
    if kind not in {"function", "custom"} or not isinstance(said, dict):
        raise InvalidRequest(
            f"{where} must be {{'id', 'type': 'function', 'function': {{'name', 'arguments'}}}}.", param=where
        )
    key = "arguments" if kind == "function" else "input"
    return ToolCall(
        id=_string(call.get("id"), f"{where}.id"),
        type=kind,
        name=_string(said.get("name"), f"{where}.{kind}.name"),
        arguments=_string(said.get(key), f"{where}.{kind}.{key}"),
    )


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{where} must be text.", param=where)
    return value


def _answered(said: JSON) -> JSON:
    """Return an answer as a model may read it again: without its reasoning, a refusal as what was said."""
    said = {key: value for key, value in said.items() if key not in _REASONING}
    refusal = said.pop("refusal", None)
    if said.get("content") is None and isinstance(refusal, str):
        said["content"] = refusal
    return said


# -- what binds the answer --------------------------------------------------------------------------------------------


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True, tag="json_schema"):
    """The answer is compact JSON that satisfies a JSON schema."""

    schema: dict[str, Any]


class Regex(msgspec.Struct, frozen=True, kw_only=True, tag="regex"):
    """The whole answer matches a regular expression (Rust syntax, no look-around)."""

    pattern: str


class Lark(msgspec.Struct, frozen=True, kw_only=True, tag="lark"):
    """The answer is a sentence of a Lark grammar in llguidance's dialect.

    `start: "{" %regex {"substring_words": "a text"} "}"` keeps a value to spans of an input text.
    """

    grammar: str


class Choices(msgspec.Struct, frozen=True, kw_only=True, tag="choices"):
    """The answer is one of a few labels. All are scored in one pass; nothing is decoded.

    A label's score is the sum of the log-probabilities of its tokens and of the terminator, plus its bias.
    """

    labels: tuple[str, ...]
    bias: tuple[float, ...] = ()
    """Added to each label's score before the choice is made; empty: none."""


Constraint = JsonSchema | Regex | Lark | Choices


class AnswerRules(Frozen, frozen=True):
    """What the client, the version or its prompt demands of the answer."""

    constraint: Constraint | None = None
    requested: str | None = None
    """The client's own name of the field with which it asked for the constraint; None: the version or prompt did."""
    field_threshold: float = 0.0
    """JSON answers: values whose probability is below are left out."""
    max_tokens: int = 256
    """Limit when the client sent none."""
    max_tokens_declared: bool = False
    """Somebody chose that limit; otherwise an upstream's own default holds."""


class Sampling(Frozen, frozen=True):
    """Options as the client sent them; None was not sent, and is never sent on. A call's temperature may be the
    version's own."""

    max_tokens: int | None = None
    """The client's limit of generated tokens."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    logit_bias: dict[int, float] | None = None
    """By token id."""
    logprobs: bool = False
    top_logprobs: int | None = None

    def check(self) -> None:
        """Raise InvalidRequest for what cannot be, by the field's name."""
        in_range("temperature", self.temperature, 0, 2)
        in_range("top_p", self.top_p, 0, 1)
        in_range("top_k", self.top_k, 0, 1_000_000)
        in_range("top_logprobs", self.top_logprobs, 0, 20)
        in_range("max_tokens", self.max_tokens, 1, MAX_LIMIT)
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("top_logprobs needs `logprobs: true`.", param="top_logprobs")
        if self.stop is not None and (len(self.stop) > MAX_STOPS or not all(self.stop)):
            raise InvalidRequest("stop takes one to four non-empty strings.", param="stop")
        if any(len(stop) > MAX_STOP_CHARACTERS for stop in self.stop or ()):
            raise InvalidRequest(f"stop takes strings of at most {MAX_STOP_CHARACTERS} characters.", param="stop")
        for value in (self.logit_bias or {}).values():
            in_range("logit_bias", value, -100, 100)


def in_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise InvalidRequest for a value of that name that is given and outside [low, high]."""
    if value is not None and not low <= value <= high:
        raise InvalidRequest(f"{name} must be between {low:g} and {high:g}, not {value:g}.", param=name)


# -- the whole --------------------------------------------------------------------------------------------------------


class Conversation(Frozen, frozen=True):
    """What is asked of a route or model."""

    model: str
    """Route, model, alias or version as the client wrote it."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    embed: bool = False
    """A vector of each message is wanted, not an answer."""
    input: JSON | None = None
    """Structured input, which each target renders through its own prompt."""
    sampling: Sampling = Sampling()
    rules: AnswerRules = AnswerRules()
    """What the client demands of the answer."""
    episode_id: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """The client's own: nothing in Bessemer is steered by them."""
    user: str | None = None
    split: Split | None = None
    """The split of data sets that the input belongs to, whatever its hash; for keys that may contribute."""
    dialect: str | None = None
    """The name of the wire format that it came in; None: Bessemer itself asks."""
    extra: JSON = msgspec.field(default_factory=dict)
    """Fields of the request that no noun stands for, as they were sent."""
    spelling: JSON = msgspec.field(default_factory=dict)
    """Fields that nouns above stand for and that the dialect can write otherwise, as they were sent."""
    place: int = 0
    """Among the answers that one request wants."""
    cache: Literal["on", "refresh", "off"] = "on"
    """Of a route that keeps answers: take a kept one, ask anew and keep that, or do neither."""
